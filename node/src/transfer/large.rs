//! A large object: parts of it from several peers at once, proven and written as they come.
//!
//! Peers that say the same root have the same bytes, and fill one file. Who says another root fills
//! another: one of the two lies, and neither can hold up the other.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::codec::CodecError;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::outboard::{self, Outboard};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Want, WantedRange};
use mesh_store::{Arrival, Incoming, Store, StoreError};

use super::ask::{AskError, Got};
use super::{FetchError, Shared, Sources, blocking};

/// One object that is coming.
struct Coming {
    name: ValueName,
    store: Store,
    /// One for each root that somebody says, up to [`limits::TRANSFER_SOURCES`].
    files: Mutex<Vec<Arc<Filling>>>,
}

/// A file that is being filled with what may be the object.
struct Filling {
    name: ValueName,
    incoming: Incoming,
    state: Mutex<State>,
}

struct State {
    /// Parts to ask for.
    left: VecDeque<Part>,
    written_bytes: u64,
    /// The root of its tree, by the word of whoever gave the first piece.
    root: Option<outboard::Root>,
    /// Those who say so.
    givers: BTreeSet<PeerId>,
    /// The hashes of the pieces that have come.
    pieces: Vec<outboard::Node>,
}

#[derive(Clone, Copy)]
struct Part {
    start: u64,
    length: u64,
}

/// What became of a piece.
enum Taken {
    Written,
    /// It belongs to another file.
    Dissents(outboard::Root),
    /// It is not what its sender has said before.
    False,
}

/// Why a peer gives no more parts.
enum Stopped {
    /// None is left to ask for.
    Idle,
    Lacks,
    /// It says another root.
    Dissents(outboard::Root),
    Failed(AskError),
    Store(FetchError),
}

impl Shared {
    /// Fetches all parts, of the best peers first, of several at once.
    pub(super) async fn fetch_large(
        &self,
        name: ValueName,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let hints = sources.hints.iter().chain(&sources.origin).copied();
        let mut waiting = VecDeque::from(self.suspects.order(hints));
        let (asked, mut last) = (waiting.len(), None);
        // Those who say yet another root, when there are too many.
        let mut aside = Vec::new();
        let coming = Coming { name, store: self.store.clone(), files: Mutex::default() };
        let shared = &coming;
        let mut asking = Asking::default();
        loop {
            while asking.len() < limits::TRANSFER_SOURCES
                && let Some((peer, filling)) = coming.next_to_ask(&mut waiting).await?
            {
                let take = async move { (peer, self.take_parts(shared, filling, peer).await) };
                asking.push(Box::pin(take));
            }
            let Some((peer, stopped)) = asking.next().await else {
                if aside.is_empty() {
                    return Err(FetchError::Nowhere { name, asked, last });
                }
                // Nobody is left who could fill one of these.
                coming.lock().clear();
                waiting.extend(aside.drain(..));
                continue;
            };
            match stopped {
                // Another one may break off, and then its parts are for this one.
                Stopped::Idle => waiting.push_front(peer),
                Stopped::Lacks => last = Some("it does not have it".to_owned()),
                Stopped::Dissents(_) => aside.push(peer),
                Stopped::Failed(error) => {
                    self.blame(peer, &error);
                    last = Some(error.to_string());
                }
                Stopped::Store(error) => return Err(error),
            }
            let Some(filled) = coming.take_filled() else { continue };
            let givers = filled.lock().givers.clone();
            match self.finish(filled).await? {
                Arrival::Stored => {
                    let others = coming.lock().iter().map(|it| it.lock().givers.clone()).collect();
                    let others: Vec<BTreeSet<PeerId>> = others;
                    let dissenters = others.into_iter().flatten().chain(aside);
                    dissenters.for_each(|liar| self.lied(liar, name));
                    return Ok(());
                }
                Arrival::Refused => {
                    last = Some("its bytes are others".to_owned());
                    waiting.retain(|peer| !givers.contains(peer));
                    waiting.extend(aside.drain(..));
                    givers.into_iter().for_each(|liar| self.lied(liar, name));
                }
            }
        }
    }

    fn lied(&self, peer: PeerId, name: ValueName) {
        self.suspects.lied(peer, format!("the bytes it sent as {name} are others"));
    }

    /// Asks one peer for part after part of the file that it can fill.
    async fn take_parts(
        &self,
        coming: &Coming,
        mut filling: Arc<Filling>,
        peer: PeerId,
    ) -> Stopped {
        loop {
            let Some(part) = filling.next_part() else { return Stopped::Idle };
            let mut given = Given { filling: &filling, part, length: 0 };
            match self.take_part(&mut given, peer).await {
                Ok(()) => self.suspects.worked(peer),
                Err(Stopped::Dissents(root)) => {
                    drop(given);
                    match coming.of_root(root, peer).await {
                        Ok(Some(other)) => filling = other,
                        Ok(None) => return Stopped::Dissents(root),
                        Err(error) => return Stopped::Store(error),
                    }
                }
                Err(stopped) => return stopped,
            }
        }
    }

    async fn take_part(&self, given: &mut Given<'_>, peer: PeerId) -> Result<(), Stopped> {
        let name = given.filling.name;
        let Part { start, length } = given.part;
        let ask = self.asker.ask(peer, Want { items: vec![WantedRange { name, start, length }] });
        let mut asking = ask.await.map_err(Stopped::Failed)?;
        let mut next = asking.next().await;
        while let Some(got) = next.map_err(Stopped::Failed)? {
            let Got::Bytes { start, bytes, proof, .. } = got else {
                asking.end();
                return Err(Stopped::Lacks);
            };
            let filling = Arc::clone(given.filling);
            let length = bytes.len() as u64;
            let take = blocking(move || filling.take(peer, start, &bytes, &proof));
            // The next one comes while this one is hashed and written.
            let taken;
            (taken, next) = tokio::join!(take, asking.next());
            let taken = taken.and_then(|taken| Ok(taken?));
            match taken.map_err(Stopped::Store)? {
                Taken::Written => given.length += length,
                Taken::Dissents(root) => return Err(Stopped::Dissents(root)),
                Taken::False => {
                    let what = format!("a piece that it sent of {name} is false");
                    return Err(Stopped::Failed(CodecError::Malformed(what).into()));
                }
            }
        }
        asking.end();
        Ok(())
    }

    async fn finish(&self, filled: Filling) -> Result<Arrival, FetchError> {
        let Filling { name, incoming, state } = filled;
        let arrival = blocking(move || incoming.finish()).await??;
        if arrival == Arrival::Stored {
            let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.server.keep(name.digest(), Outboard::new(state.pieces));
        }
        Ok(arrival)
    }
}

impl Coming {
    /// The next peer that has something to give, and the file to ask it for.
    async fn next_to_ask(
        &self,
        waiting: &mut VecDeque<PeerId>,
    ) -> Result<Option<(PeerId, Arc<Filling>)>, FetchError> {
        if !waiting.is_empty() && self.lock().is_empty() {
            let fresh = self.begin(None).await?;
            self.lock().push(fresh);
        }
        let files = self.lock();
        let of = |peer: &PeerId| {
            let own = files.iter().find(|file| file.lock().givers.contains(peer));
            let open = || files.iter().find(|file| file.has_left());
            own.map_or_else(open, |own| Some(own).filter(|own| own.has_left())).map(Arc::clone)
        };
        let found = waiting.iter().enumerate().find_map(|(at, peer)| Some((at, of(peer)?)));
        Ok(found.and_then(|(at, filling)| Some((waiting.remove(at)?, filling))))
    }

    /// The file that a peer can fill which says this root. None: there are too many others.
    async fn of_root(
        &self,
        root: outboard::Root,
        peer: PeerId,
    ) -> Result<Option<Arc<Filling>>, FetchError> {
        let find = || {
            let files = self.lock();
            let of_root = |file: &&Arc<Filling>| file.lock().root == Some(root);
            (files.iter().find(of_root).map(Arc::clone), files.len())
        };
        let found = match find() {
            (Some(found), _) => found,
            (None, limits::TRANSFER_SOURCES..) => return Ok(None),
            // Another peer that says this root may have come while the file was made.
            (None, _) => {
                let fresh = self.begin(Some(root)).await?;
                find().0.unwrap_or_else(|| {
                    self.lock().push(Arc::clone(&fresh));
                    fresh
                })
            }
        };
        found.lock().givers.insert(peer);
        Ok(Some(found))
    }

    async fn begin(&self, root: Option<outboard::Root>) -> Result<Arc<Filling>, FetchError> {
        let (store, name) = (self.store.clone(), self.name);
        let incoming = blocking(move || store.receive(name.digest())).await??;
        let mut left = VecDeque::new();
        let mut start = 0;
        // Made on demand, a list of all parts would be short too: 16,384 for the largest object.
        while start < name.digest().length {
            let length = limits::TRANSFER_PART_BYTES.min(name.digest().length - start);
            left.push_back(Part { start, length });
            start += length;
        }
        let (givers, pieces) = (BTreeSet::new(), Vec::new());
        let state = Mutex::new(State { left, written_bytes: 0, root, givers, pieces });
        Ok(Arc::new(Filling { name, incoming, state }))
    }

    /// One that is complete, once nobody has it in hand any more.
    fn take_filled(&self) -> Option<Filling> {
        let mut files = self.lock();
        let is_filled = |file: &Arc<Filling>| {
            let complete = file.lock().written_bytes == self.name.digest().length;
            complete && Arc::strong_count(file) == 1
        };
        let at = files.iter().position(is_filled)?;
        Arc::into_inner(files.remove(at))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Filling>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filling {
    /// Writes a piece, if it is part of what the others are parts of. Blocks.
    fn take(
        &self,
        peer: PeerId,
        start: u64,
        bytes: &[u8],
        proof: &[outboard::Node],
    ) -> Result<Taken, StoreError> {
        let piece = outboard::piece(start, bytes);
        let root = outboard::root(self.name.digest().length, start, piece, proof);
        let Some(root) = root else { return Ok(Taken::False) };
        {
            let mut state = self.lock();
            if *state.root.get_or_insert(root) != root {
                let said = state.givers.contains(&peer);
                return Ok(if said { Taken::False } else { Taken::Dissents(root) });
            }
            state.givers.insert(peer);
            let place = (start / u64::from(limits::TRANSFER_PIECE_BYTES)) as usize;
            if state.pieces.len() <= place {
                state.pieces.resize(place + 1, outboard::Node::default());
            }
            if let Some(slot) = state.pieces.get_mut(place) {
                *slot = piece;
            }
        }
        self.incoming.write_at(start, bytes)?;
        self.lock().written_bytes += bytes.len() as u64;
        Ok(Taken::Written)
    }

    fn next_part(&self) -> Option<Part> {
        self.lock().left.pop_front()
    }

    fn has_left(&self) -> bool {
        !self.lock().left.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that one peer is giving. What of it has not come when this is dropped is left for others.
struct Given<'a> {
    filling: &'a Arc<Filling>,
    part: Part,
    length: u64,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let Part { start, length } = self.part;
        if self.length < length {
            let rest = Part { start: start + self.length, length: length - self.length };
            self.filling.lock().left.push_front(rest);
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
