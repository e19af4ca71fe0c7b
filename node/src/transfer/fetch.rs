//! From names to objects in the store.

use std::collections::BTreeSet;

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Want, WantedRange};
use mesh_store::Arrival;

use super::ask::{AskError, Got};
use super::flight::Leads;
use super::{FetchError, Shared, Sources, blocking};

/// What came of asking one peer for a batch.
enum Asked {
    /// It has these not; the others are stored.
    Lacks(BTreeSet<ValueName>),
    /// It sent false bytes, broke off or broke a rule.
    Failed(String),
}

impl Shared {
    pub(super) async fn fetch(
        &self,
        names: BTreeSet<ValueName>,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let mut names = self.missing(names).await?;
        while let Some(largest) = names.iter().max_by_key(|name| name.digest().length) {
            if largest.digest().length > limits::TRANSFER_OBJECT_BYTES {
                return Err(FetchError::TooMuch(*largest, "larger than anything that is fetched"));
            }
            let mut boarded = self.flights.board(names.clone());
            // Somebody may have landed between our look and now.
            let missing = self.missing(boarded.leads.names().collect()).await?;
            let here: Vec<ValueName> =
                boarded.leads.names().filter(|name| !missing.contains(name)).collect();
            here.into_iter().for_each(|name| boarded.leads.land(name));
            self.lead(boarded.leads, sources).await?;
            // Whoever leads has deadlines. If they fail, it is for us to lead.
            for follow in boarded.follows {
                follow.landed().await;
            }
            names = self.missing(names).await?;
        }
        Ok(())
    }

    async fn missing(&self, names: BTreeSet<ValueName>) -> Result<BTreeSet<ValueName>, FetchError> {
        if names.is_empty() {
            return Ok(names);
        }
        let store = self.store.clone();
        let look =
            move || names.into_iter().filter(|name| !store.contains(name.digest())).collect();
        blocking(look).await
    }

    async fn lead(&self, mut leads: Leads, sources: &Sources) -> Result<(), FetchError> {
        let small = leads.split(|name| name.digest().length <= limits::TRANSFER_HELD_BYTES);
        tokio::try_join!(self.lead_small(small, sources), self.lead_large(leads, sources))?;
        Ok(())
    }

    async fn lead_large(&self, mut leads: Leads, sources: &Sources) -> Result<(), FetchError> {
        let names: Vec<ValueName> = leads.names().collect();
        for name in names {
            self.fetch_large(name, sources).await?;
            leads.land(name);
        }
        Ok(())
    }

    /// One source after the other, the origin first: it surely has what is small.
    async fn lead_small(&self, mut leads: Leads, sources: &Sources) -> Result<(), FetchError> {
        let empty = ValueName::of(b"");
        if leads.names().any(|name| name == empty) {
            let store = self.store.clone();
            blocking(move || store.put_bytes(b"")).await??;
            leads.land(empty);
        }
        let peers = self.suspects.order(sources.origin.iter().chain(&sources.hints).copied());
        let (mut asked, mut last) = (0, None);
        for peer in peers {
            let mut open: BTreeSet<ValueName> = leads.names().collect();
            if open.is_empty() {
                break;
            }
            asked += 1;
            while let Some(batch) = take_batch(&mut open) {
                match self.ask_batch(peer, &batch, &mut leads).await? {
                    Asked::Lacks(lacks) if lacks.is_empty() => {}
                    Asked::Lacks(_) => last = Some("it does not have it".to_owned()),
                    Asked::Failed(how) => {
                        last = Some(how);
                        break;
                    }
                }
            }
        }
        match leads.names().next() {
            Some(name) => Err(FetchError::Nowhere { name, asked, last }),
            None => Ok(()),
        }
    }

    async fn ask_batch(
        &self,
        peer: PeerId,
        batch: &[ValueName],
        leads: &mut Leads,
    ) -> Result<Asked, FetchError> {
        let (held, mut end) = self.collect_batch(peer, batch).await;
        let store = self.store.clone();
        let check = move || {
            let (mut stored, mut lie) = (Vec::new(), None);
            for (name, bytes) in held {
                match store.put_named(name.digest(), &bytes)? {
                    Arrival::Stored => stored.push(name),
                    Arrival::Refused => lie = Some(name),
                }
            }
            Ok::<_, mesh_store::StoreError>((stored, lie))
        };
        let (stored, lie) = blocking(check).await??;
        for name in &stored {
            leads.land(*name);
        }
        if let Some(name) = lie {
            let what = format!("the bytes it sent as {name} are others");
            self.suspects.lied(peer, what.clone());
            return Ok(Asked::Failed(what));
        }
        if let Err(error) = &mut end {
            self.blame(peer, error);
            return Ok(Asked::Failed(error.to_string()));
        }
        self.suspects.worked(peer);
        Ok(Asked::Lacks(batch.iter().filter(|name| !stored.contains(name)).copied().collect()))
    }

    /// What came whole, and how the answer ended.
    async fn collect_batch(
        &self,
        peer: PeerId,
        batch: &[ValueName],
    ) -> (Vec<(ValueName, Vec<u8>)>, Result<(), AskError>) {
        let mut whole = Vec::new();
        let items = batch.iter().copied().map(WantedRange::whole).collect();
        let collect = async {
            let mut asking = self.asker.ask(peer, Want { items }).await?;
            let mut held = Vec::new();
            while let Some(got) = asking.next().await? {
                match got {
                    Got::Bytes { item, bytes, last, .. } => {
                        held.extend(bytes);
                        if let (true, Some(name)) = (last, batch.get(item)) {
                            whole.push((*name, std::mem::take(&mut held)));
                        }
                    }
                    Got::Missing => held.clear(),
                }
            }
            asking.end();
            Ok(())
        };
        let end = collect.await;
        (whole, end)
    }

    /// Remembers what a peer did.
    pub(super) fn blame(&self, peer: PeerId, error: &AskError) {
        match error {
            AskError::Rules(rule) => self.suspects.lied(peer, rule.to_string()),
            _ => self.suspects.failed(peer),
        }
    }
}

/// As many as one question may ask for.
fn take_batch(open: &mut BTreeSet<ValueName>) -> Option<Vec<ValueName>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(name) = open.first().copied() {
        bytes += name.digest().length;
        let full = bytes > limits::TRANSFER_BATCH_BYTES || batch.len() >= limits::TRANSFER_WANTS;
        if full && !batch.is_empty() {
            break;
        }
        open.pop_first();
        batch.push(name);
    }
    (!batch.is_empty()).then_some(batch)
}
