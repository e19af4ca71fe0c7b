//! A large object: parts of it from several peers at once, written as they come.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Want, WantedRange};
use mesh_store::{Arrival, Incoming};

use super::ask::{AskError, Got};
use super::{FetchError, Shared, Sources, blocking};

/// One object that is coming.
struct Coming {
    name: ValueName,
    incoming: Arc<Incoming>,
    parts: Mutex<Parts>,
}

/// What is left to ask for, and who gave the rest.
struct Parts {
    left: VecDeque<Part>,
    given: Vec<(Part, PeerId)>,
}

#[derive(Clone, Copy)]
struct Part {
    start: u64,
    length: u64,
}

/// Bytes that are not the object's, and who sent which of them.
struct Refused {
    incoming: Box<Incoming>,
    given: Vec<(Part, PeerId)>,
}

/// What became of one attempt.
enum Outcome {
    Stored,
    Refused(Refused),
}

/// Why a peer gives no more parts.
enum Stopped {
    /// None is left to ask for.
    Idle,
    Lacks,
    Failed(AskError),
    Store(FetchError),
}

impl Shared {
    pub(super) async fn fetch_large(
        &self,
        name: ValueName,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        loop {
            let peers = self.suspects.order(sources.hints.iter().chain(&sources.origin).copied());
            let Outcome::Refused(refused) = self.attempt(name, peers.clone()).await? else {
                return Ok(());
            };
            let givers: BTreeSet<PeerId> = refused.given.iter().map(|(_, peer)| *peer).collect();
            match givers.first() {
                Some(liar) if givers.len() == 1 => self.lied(*liar, name),
                _ => return self.find_liar(name, peers, refused).await,
            }
        }
    }

    /// Several sent it, and it is wrong: asks each for the whole, until one gives the true bytes, and
    /// compares them with what came first.
    async fn find_liar(
        &self,
        name: ValueName,
        peers: Vec<PeerId>,
        refused: Refused,
    ) -> Result<(), FetchError> {
        let (asked, mut last) = (peers.len(), None);
        for peer in peers {
            match self.attempt(name, vec![peer]).await {
                Ok(Outcome::Stored) => return self.compare(name, refused).await,
                Ok(Outcome::Refused(_)) => {
                    self.lied(peer, name);
                    last = Some("its bytes are others".to_owned());
                }
                Err(FetchError::Nowhere { last: why, .. }) => last = why,
                Err(error) => return Err(error),
            }
        }
        Err(FetchError::Nowhere { name, asked, last })
    }

    async fn compare(&self, name: ValueName, refused: Refused) -> Result<(), FetchError> {
        let look = move || {
            let mut liars = BTreeSet::new();
            for (part, peer) in &refused.given {
                if !liars.contains(peer) && refused.incoming.differs(part.start, part.length)? {
                    liars.insert(*peer);
                }
            }
            Ok::<_, mesh_store::StoreError>(liars)
        };
        for liar in blocking(look).await?? {
            self.lied(liar, name);
        }
        Ok(())
    }

    fn lied(&self, peer: PeerId, name: ValueName) {
        self.suspects.lied(peer, format!("the bytes it sent as {name} are others"));
    }

    /// Fetches all parts from these peers, the best first, several at once.
    async fn attempt(&self, name: ValueName, peers: Vec<PeerId>) -> Result<Outcome, FetchError> {
        let (asked, mut last) = (peers.len(), None);
        let coming = self.begin(name).await?;
        let mut waiting = VecDeque::from(peers);
        let mut asking = Asking::default();
        let shared = &coming;
        loop {
            while asking.len() < limits::TRANSFER_SOURCES && coming.has_left() {
                let Some(peer) = waiting.pop_front() else { break };
                asking.push(Box::pin(async move { (peer, self.take_parts(shared, peer).await) }));
            }
            let Some((peer, stopped)) = asking.next().await else { break };
            match stopped {
                // Another one may break off, and then its parts are for this one.
                Stopped::Idle => waiting.push_front(peer),
                Stopped::Lacks => last = Some("it does not have it".to_owned()),
                Stopped::Failed(error) => {
                    self.blame(peer, &error);
                    last = Some(error.to_string());
                }
                Stopped::Store(error) => return Err(error),
            }
        }
        drop(asking);
        if coming.has_left() {
            return Err(FetchError::Nowhere { name, asked, last });
        }
        finish(coming).await
    }

    async fn begin(&self, name: ValueName) -> Result<Coming, FetchError> {
        let store = self.store.clone();
        let incoming = Arc::new(blocking(move || store.receive(name.digest())).await??);
        let mut left = VecDeque::new();
        let mut start = 0;
        // Made on demand, a list of all parts would be short too: 16,384 for the largest object.
        while start < name.digest().length {
            let length = limits::TRANSFER_PART_BYTES.min(name.digest().length - start);
            left.push_back(Part { start, length });
            start += length;
        }
        let parts = Mutex::new(Parts { left, given: Vec::new() });
        Ok(Coming { name, incoming, parts })
    }

    /// Asks one peer for part after part.
    async fn take_parts(&self, coming: &Coming, peer: PeerId) -> Stopped {
        loop {
            let Some(part) = coming.next_part() else { return Stopped::Idle };
            let mut taken = Taken { coming, peer, part, length: 0 };
            match self.take_part(&mut taken).await {
                Ok(true) => self.suspects.worked(peer),
                Ok(false) => return Stopped::Lacks,
                Err(stopped) => return stopped,
            }
        }
    }

    /// False: the peer does not have it.
    async fn take_part(&self, taken: &mut Taken<'_>) -> Result<bool, Stopped> {
        let Part { start, length } = taken.part;
        let items = vec![WantedRange { name: taken.coming.name, start, length }];
        let ask = self.asker.ask(taken.peer, Want { items });
        let mut asking = ask.await.map_err(Stopped::Failed)?;
        while let Some(got) = asking.next().await.map_err(Stopped::Failed)? {
            let Got::Bytes { start, bytes, .. } = got else {
                asking.end();
                return Ok(false);
            };
            let incoming = Arc::clone(&taken.coming.incoming);
            let length = bytes.len() as u64;
            let write = blocking(move || incoming.write_at(start, &bytes));
            let written = write.await.and_then(|written| Ok(written?));
            written.map_err(Stopped::Store)?;
            taken.length += length;
        }
        asking.end();
        Ok(true)
    }
}

async fn finish(coming: Coming) -> Result<Outcome, FetchError> {
    let Coming { incoming, parts, .. } = coming;
    let given = parts.into_inner().unwrap_or_else(PoisonError::into_inner).given;
    // Whoever wrote has ended.
    let Some(incoming) = Arc::into_inner(incoming) else { return Err(FetchError::Closed) };
    Ok(match blocking(move || incoming.finish()).await?? {
        Arrival::Stored => Outcome::Stored,
        Arrival::Refused(incoming) => Outcome::Refused(Refused { incoming, given }),
    })
}

impl Coming {
    fn next_part(&self) -> Option<Part> {
        self.lock().left.pop_front()
    }

    fn has_left(&self) -> bool {
        !self.lock().left.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that one peer is giving. What of it has not come when this is dropped is left for others.
struct Taken<'a> {
    coming: &'a Coming,
    peer: PeerId,
    part: Part,
    length: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Part { start, length } = self.part;
        let mut parts = self.coming.lock();
        if self.length > 0 {
            parts.given.push((Part { start, length: self.length }, self.peer));
        }
        if self.length < length {
            let rest = Part { start: start + self.length, length: length - self.length };
            parts.left.push_front(rest);
        }
    }
}

/// Futures of a few peers, polled together in the caller's task: they borrow what it holds.
#[derive(Default)]
struct Asking<'a>(Vec<PartsFuture<'a>>);

type PartsFuture<'a> = std::pin::Pin<Box<dyn Future<Output = (PeerId, Stopped)> + Send + 'a>>;

impl<'a> Asking<'a> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn push(&mut self, future: PartsFuture<'a>) {
        self.0.push(future);
    }

    /// The first that ends; none if there are none.
    async fn next(&mut self) -> Option<(PeerId, Stopped)> {
        if self.0.is_empty() {
            return None;
        }
        std::future::poll_fn(|context| {
            for (place, future) in self.0.iter_mut().enumerate() {
                if let std::task::Poll::Ready(end) = future.as_mut().poll(context) {
                    drop(self.0.swap_remove(place));
                    return std::task::Poll::Ready(Some(end));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
