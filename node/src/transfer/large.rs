//! A large object: parts of it from several peers at once, proven and written as they come.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::codec::CodecError;
use mesh_protocol::limits;
use mesh_protocol::name::ValueName;
use mesh_protocol::outboard::{self, Outboard};
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::transfer::{Want, WantedRange};
use mesh_store::{Arrival, Incoming, StoreError};

use super::ask::{AskError, Got};
use super::{FetchError, Shared, Sources, blocking};

/// One object that is coming.
struct Coming {
    name: ValueName,
    incoming: Incoming,
    state: Mutex<State>,
}

struct State {
    /// Parts to ask for.
    left: VecDeque<Part>,
    /// The root of its tree, by the word of whoever gave the first piece.
    root: Option<outboard::Root>,
    /// Those whose pieces have that root.
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
    /// It has another root, and so has nothing else that its sender gave.
    Dissents,
    /// It is not what its sender has said before.
    False,
}

/// Why a peer gives no more parts.
enum Stopped {
    /// None is left to ask for.
    Idle,
    Lacks,
    Dissents,
    Failed(AskError),
    Store(FetchError),
}

/// What became of one attempt.
struct Attempt {
    end: End,
    /// Those who may still be asked: they gave none of what came.
    others: Vec<PeerId>,
    dissenters: Vec<PeerId>,
}

enum End {
    Stored,
    /// The whole is not the object.
    Refused {
        givers: BTreeSet<PeerId>,
    },
    /// Parts are missing, and nobody is left to give them.
    Incomplete,
}

impl Shared {
    pub(super) async fn fetch_large(
        &self,
        name: ValueName,
        sources: &Sources,
    ) -> Result<(), FetchError> {
        let hints = sources.hints.iter().chain(&sources.origin).copied();
        let mut peers = self.suspects.order(hints);
        let (asked, mut last) = (peers.len(), None);
        // Whoever gives the first piece is not asked again, so this ends.
        while !peers.is_empty() {
            let Attempt { end, others, dissenters } = self.attempt(name, peers, &mut last).await?;
            match end {
                End::Stored => {
                    dissenters.into_iter().for_each(|liar| self.lied(liar, name));
                    return Ok(());
                }
                End::Refused { givers } => {
                    last = Some("its bytes are others".to_owned());
                    givers.into_iter().for_each(|liar| self.lied(liar, name));
                }
                End::Incomplete => {}
            }
            peers = dissenters;
            peers.extend(others);
        }
        Err(FetchError::Nowhere { name, asked, last })
    }

    fn lied(&self, peer: PeerId, name: ValueName) {
        self.suspects.lied(peer, format!("the bytes it sent as {name} are others"));
    }

    /// Fetches all parts from these peers, the best first, several at once.
    async fn attempt(
        &self,
        name: ValueName,
        peers: Vec<PeerId>,
        last: &mut Option<String>,
    ) -> Result<Attempt, FetchError> {
        let coming = self.begin(name).await?;
        let (mut waiting, mut dissenters) = (VecDeque::from(peers), Vec::new());
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
                Stopped::Lacks => *last = Some("it does not have it".to_owned()),
                Stopped::Dissents => dissenters.push(peer),
                Stopped::Failed(error) => {
                    self.blame(peer, &error);
                    *last = Some(error.to_string());
                }
                Stopped::Store(error) => return Err(error),
            }
        }
        drop(asking);
        // Whoever wrote has ended.
        let coming = Arc::into_inner(coming).ok_or(FetchError::Closed)?;
        let givers = coming.lock().givers.clone();
        let others = waiting.into_iter().filter(|peer| !givers.contains(peer)).collect();
        let end = match coming.has_left() {
            true => End::Incomplete,
            false => match self.finish(coming).await? {
                Arrival::Stored => End::Stored,
                Arrival::Refused => End::Refused { givers },
            },
        };
        Ok(Attempt { end, others, dissenters })
    }

    async fn begin(&self, name: ValueName) -> Result<Arc<Coming>, FetchError> {
        let store = self.store.clone();
        let incoming = blocking(move || store.receive(name.digest())).await??;
        let mut left = VecDeque::new();
        let mut start = 0;
        // Made on demand, a list of all parts would be short too: 16,384 for the largest object.
        while start < name.digest().length {
            let length = limits::TRANSFER_PART_BYTES.min(name.digest().length - start);
            left.push_back(Part { start, length });
            start += length;
        }
        let (root, givers, pieces) = (None, BTreeSet::new(), Vec::new());
        let state = Mutex::new(State { left, root, givers, pieces });
        Ok(Arc::new(Coming { name, incoming, state }))
    }

    /// Asks one peer for part after part.
    async fn take_parts(&self, coming: &Arc<Coming>, peer: PeerId) -> Stopped {
        loop {
            let Some(part) = coming.next_part() else { return Stopped::Idle };
            let mut given = Given { coming, part, length: 0 };
            match self.take_part(&mut given, peer).await {
                Ok(()) => self.suspects.worked(peer),
                Err(stopped) => return stopped,
            }
        }
    }

    async fn take_part(&self, given: &mut Given<'_>, peer: PeerId) -> Result<(), Stopped> {
        let Part { start, length } = given.part;
        let items = vec![WantedRange { name: given.coming.name, start, length }];
        let ask = self.asker.ask(peer, Want { items });
        let mut asking = ask.await.map_err(Stopped::Failed)?;
        let mut next = asking.next().await;
        while let Some(got) = next.map_err(Stopped::Failed)? {
            let Got::Bytes { start, bytes, proof, .. } = got else {
                asking.end();
                return Err(Stopped::Lacks);
            };
            let coming = Arc::clone(given.coming);
            let length = bytes.len() as u64;
            let take = blocking(move || coming.take(peer, start, &bytes, &proof));
            // The next one comes while this one is hashed and written.
            let taken;
            (taken, next) = tokio::join!(take, asking.next());
            let taken = taken.and_then(|taken| Ok(taken?));
            match taken.map_err(Stopped::Store)? {
                Taken::Written => given.length += length,
                Taken::Dissents => return Err(Stopped::Dissents),
                Taken::False => {
                    let what = format!("a piece that it sent of {} is false", given.coming.name);
                    return Err(Stopped::Failed(CodecError::Malformed(what).into()));
                }
            }
        }
        asking.end();
        Ok(())
    }

    async fn finish(&self, coming: Coming) -> Result<Arrival, FetchError> {
        let Coming { name, incoming, state } = coming;
        let arrival = blocking(move || incoming.finish()).await??;
        if arrival == Arrival::Stored {
            let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.server.keep(name.digest(), Outboard::new(state.pieces));
        }
        Ok(arrival)
    }
}

impl Coming {
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
                let gave = state.givers.contains(&peer);
                return Ok(if gave { Taken::False } else { Taken::Dissents });
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
    coming: &'a Arc<Coming>,
    part: Part,
    length: u64,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        let Part { start, length } = self.part;
        if self.length < length {
            let rest = Part { start: start + self.length, length: length - self.length };
            self.coming.lock().left.push_front(rest);
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
