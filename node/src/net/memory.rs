//! A network inside one process, for tests: what is written arrives, in order and at once, unless
//! the test cuts the link.
//!
//! Goals: the same contract as the real network, events in an order that depends on nothing but the
//! calls, and the two ways in which a peer goes: [`MemoryMesh::cut`] (both ends are told) and
//! [`MemoryMesh::silence`] (nobody is told; nothing comes any more). Non-goals: delay, rates,
//! reordering; the simulation has those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use tokio::sync::mpsc;

use super::link::{Link, LinkState, LinkStream};
use super::{BoxStream, Network, NetworkError, NetworkEvent, OpenFuture, Service, Topic};

/// Bytes on their way in one direction of one stream.
const STREAM_BUFFER_BYTES: usize = 64 * 1024;

/// All nodes of one process, and the links between each two of them.
#[derive(Clone, Default)]
pub struct MemoryMesh(Arc<Mutex<Nodes>>);

#[derive(Default)]
struct Nodes {
    events: BTreeMap<PeerId, mpsc::Sender<NetworkEvent>>,
    /// By the lower and the higher end. A link that was cut is not there.
    links: BTreeMap<(PeerId, PeerId), Arc<Link>>,
}

/// One node's end.
pub struct MemoryNetwork {
    own: PeerId,
    mesh: MemoryMesh,
}

impl MemoryMesh {
    /// A mesh of none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node, with a link to each that is there; all are told. Whoever joins again under
    /// one name has restarted: its old links are cut.
    ///
    /// Like all that changes links it waits for room in the channels of the events, which hold
    /// [`limits::NETWORK_EVENTS`]: a node that hears nothing stops the others in the end.
    pub async fn join(&self, own: PeerId) -> (Arc<dyn Network>, mpsc::Receiver<NetworkEvent>) {
        self.leave(own).await;
        let (sender, receiver) = mpsc::channel(limits::NETWORK_EVENTS);
        let others: Vec<PeerId> = {
            let mut nodes = self.lock();
            let others = nodes.events.keys().copied().collect();
            nodes.events.insert(own, sender);
            others
        };
        for other in others {
            self.heal(own, other).await;
        }
        (Arc::new(MemoryNetwork { own, mesh: self.clone() }), receiver)
    }

    /// Takes a node away, as if its process had ended; the others are told.
    pub async fn leave(&self, own: PeerId) {
        let linked: Vec<PeerId> = self.lock().events.keys().copied().collect();
        for other in linked {
            self.cut(own, other).await;
        }
        self.lock().events.remove(&own);
    }

    /// Closes the connection between two: their streams fail, both are told.
    pub async fn cut(&self, a: PeerId, b: PeerId) {
        let link = self.lock().links.remove(&ends(a, b));
        if let Some(link) = link {
            link.set(LinkState::Cut);
            self.tell(a, NetworkEvent::Disconnected(b)).await;
            self.tell(b, NetworkEvent::Disconnected(a)).await;
        }
    }

    /// Stops all that goes between two, and tells nobody: what is written waits until
    /// [`MemoryMesh::heal`], or is lost by [`MemoryMesh::cut`]. Gossip and streams opened meanwhile are lost.
    pub fn silence(&self, a: PeerId, b: PeerId) {
        if let Some(link) = self.lock().links.get(&ends(a, b)) {
            link.set(LinkState::Silent);
        }
    }

    /// Connects two nodes that were cut (both are told), or lets them hear each other again.
    pub async fn heal(&self, a: PeerId, b: PeerId) {
        let is_new = {
            let mut nodes = self.lock();
            let both = nodes.events.contains_key(&a) && nodes.events.contains_key(&b);
            match nodes.links.get(&ends(a, b)) {
                Some(link) => {
                    link.set(LinkState::Up);
                    false
                }
                None if both && a != b => {
                    nodes.links.insert(ends(a, b), Arc::default());
                    true
                }
                None => false,
            }
        };
        if is_new {
            self.tell(a, NetworkEvent::Connected(b)).await;
            self.tell(b, NetworkEvent::Connected(a)).await;
        }
    }

    async fn tell(&self, peer: PeerId, event: NetworkEvent) {
        let sender = self.lock().events.get(&peer).cloned();
        if let Some(sender) = sender {
            // One that hears no more is as good as gone.
            let _ = sender.send(event).await;
        }
    }

    /// Who would hear `own` now, in the order of their names.
    fn heard_by(&self, own: PeerId) -> Vec<mpsc::Sender<NetworkEvent>> {
        let nodes = self.lock();
        let up = |peer: &PeerId| {
            nodes.links.get(&ends(own, *peer)).is_some_and(|link| link.state() == LinkState::Up)
        };
        let heard = nodes.events.iter().filter(|(peer, _)| up(peer));
        heard.map(|(_, sender)| sender.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryNetwork {
    async fn open_stream(&self, peer: PeerId, service: Service) -> Result<BoxStream, NetworkError> {
        let (link, sender) = {
            let nodes = self.mesh.lock();
            let link = nodes.links.get(&ends(self.own, peer)).cloned();
            (link, nodes.events.get(&peer).cloned())
        };
        let (link, sender) =
            link.zip(sender).ok_or_else(|| NetworkError::Unreachable(peer.to_owned()))?;
        if link.state() == LinkState::Silent {
            return Err(NetworkError::TimedOut(peer));
        }
        let (ours, theirs) = tokio::io::duplex(STREAM_BUFFER_BYTES);
        let stream = Box::new(LinkStream::new(theirs, link.clone()));
        let event = NetworkEvent::Incoming { peer: self.own, service, stream };
        sender.send(event).await.map_err(|_| NetworkError::Unreachable(peer))?;
        Ok(Box::new(LinkStream::new(ours, link)))
    }
}

impl Network for MemoryNetwork {
    fn own(&self) -> PeerId {
        self.own
    }

    fn open(&self, peer: PeerId, service: Service) -> OpenFuture<'_> {
        Box::pin(self.open_stream(peer, service))
    }

    fn publish(&self, topic: Topic, message: Vec<u8>) {
        if message.len() > topic.bytes_max() {
            return;
        }
        for sender in self.mesh.heard_by(self.own) {
            let message = message.clone();
            // Full: gossip may be lost.
            let _ = sender.try_send(NetworkEvent::Gossip { from: self.own, topic, message });
        }
    }
}

fn ends(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    const C: PeerId = PeerId([3; 32]);

    type Events = mpsc::Receiver<NetworkEvent>;

    async fn incoming(events: &mut Events) -> BoxStream {
        loop {
            if let NetworkEvent::Incoming { stream, .. } = events.recv().await.unwrap() {
                return stream;
            }
        }
    }

    fn so_far(events: &mut Events) -> Vec<String> {
        let tell = |event| match event {
            NetworkEvent::Connected(peer) => format!("+{peer:?}"),
            NetworkEvent::Disconnected(peer) => format!("-{peer:?}"),
            NetworkEvent::Gossip { from, message, .. } => format!("{from:?} says {message:?}"),
            NetworkEvent::Incoming { peer, service, .. } => format!("{peer:?} {service:?}"),
        };
        std::iter::from_fn(|| events.try_recv().ok()).map(tell).collect()
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_in_order() {
        let mesh = MemoryMesh::new();
        let (a, _) = mesh.join(A).await;
        let (_b, mut b_events) = mesh.join(B).await;
        let mut ours = a.open(B, Service::Claim).await.unwrap();
        let mut theirs = incoming(&mut b_events).await;
        // More than the stream holds: both ends have to work at once.
        let sent: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let write = async {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let read = async {
            let mut bytes = Vec::new();
            theirs.read_to_end(&mut bytes).await.unwrap();
            theirs.write_all(b"got it").await.unwrap();
            drop(theirs);
            bytes
        };
        let (answer, bytes) = tokio::join!(write, read);
        assert!(bytes == sent && answer == "got it");
    }

    #[tokio::test]
    async fn gossip_reaches_all_but_its_author_and_who_is_cut_off() {
        let mesh = MemoryMesh::new();
        let (a, mut a_events) = mesh.join(A).await;
        let (_b, mut b_events) = mesh.join(B).await;
        let (_c, mut c_events) = mesh.join(C).await;
        mesh.cut(A, C).await;
        a.publish(Topic::Offers, vec![7]);
        a.publish(Topic::Offers, vec![0; Topic::Offers.bytes_max() + 1]);
        assert_eq!(so_far(&mut a_events), ["+P02020202", "+P03030303", "-P03030303"]);
        assert_eq!(so_far(&mut b_events), ["+P01010101", "+P03030303", "P01010101 says [7]"]);
        assert_eq!(so_far(&mut c_events), ["+P01010101", "+P02020202", "-P01010101"]);
    }

    #[tokio::test]
    async fn a_cut_ends_reads_that_wait_and_a_new_link_does_not_wake_old_streams() {
        let mesh = MemoryMesh::new();
        let (a, mut a_events) = mesh.join(A).await;
        let (_b, mut b_events) = mesh.join(B).await;
        let mut ours = a.open(B, Service::Claim).await.unwrap();
        let mut theirs = incoming(&mut b_events).await;
        let reading = tokio::spawn(async move { theirs.read_u8().await });
        mesh.cut(B, A).await;
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(matches!(a.open(B, Service::Claim).await, Err(NetworkError::Unreachable(B))));
        mesh.heal(A, B).await;
        assert!(ours.write_all(b"old").await.is_err());
        assert!(a.open(B, Service::Claim).await.is_ok());
        assert_eq!(so_far(&mut a_events), ["+P02020202", "-P02020202", "+P02020202"]);
    }

    #[tokio::test]
    async fn silence_holds_bytes_back_and_tells_nobody() {
        let mesh = MemoryMesh::new();
        let (a, mut a_events) = mesh.join(A).await;
        let (_b, mut b_events) = mesh.join(B).await;
        let mut ours = a.open(B, Service::Claim).await.unwrap();
        let mut theirs = incoming(&mut b_events).await;
        ours.write_all(b"x").await.unwrap();
        mesh.silence(A, B);
        let reading = tokio::spawn(async move { theirs.read_u8().await });
        tokio::task::yield_now().await;
        assert!(!reading.is_finished());
        assert!(matches!(a.open(B, Service::Claim).await, Err(NetworkError::TimedOut(B))));
        a.publish(Topic::Offers, vec![1]);
        mesh.heal(A, B).await;
        assert_eq!(reading.await.unwrap().unwrap(), b'x');
        assert_eq!(so_far(&mut b_events), Vec::<String>::new());
        assert_eq!(so_far(&mut a_events), ["+P02020202"]);
    }

    #[tokio::test]
    async fn who_leaves_cannot_be_reached_and_may_come_again() {
        let mesh = MemoryMesh::new();
        let (a, mut a_events) = mesh.join(A).await;
        let (_old, mut old_events) = mesh.join(B).await;
        let mut ours = a.open(B, Service::Transfer).await.unwrap();
        let (_new, mut new_events) = mesh.join(B).await;
        assert!(ours.read_u8().await.is_err());
        assert_eq!(so_far(&mut a_events), ["+P02020202", "-P02020202", "+P02020202"]);
        assert_eq!(so_far(&mut old_events), ["+P01010101", "P01010101 Transfer", "-P01010101"]);
        assert_eq!(so_far(&mut new_events), ["+P01010101"]);
        mesh.leave(B).await;
        assert!(matches!(a.open(B, Service::Claim).await, Err(NetworkError::Unreachable(B))));
    }
}
