//! Members that claim thunks, run none of them, and say something else than the truth.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use mesh_node::net::identity::Key;
use mesh_node::net::membership::Membership;
use mesh_node::net::swarm::{JoinState, Started, SwarmConfig, start};
use mesh_node::net::{BoxStream, Network, NetworkEvent, Service};
use mesh_protocol::limits::TRANSFER_PIECE_BYTES;
use mesh_protocol::name::ValueName;
use mesh_protocol::peer::PeerId;
use mesh_protocol::thunk::{OutputObject, Platform, Reduction, Thunk, Usage};
use mesh_protocol::wire::admission::Ticket;
use mesh_protocol::wire::claim::{
    Capabilities, FromRequester, FromWorker, InlineObject, Lease, Open, Receipt, SignedReduction,
    Timeline, Window,
};
use mesh_protocol::wire::transfer::{Answer, Encoding, Want};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// What is false.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lie {
    /// The signature.
    Signature,
    /// The bytes of outputs, which come with the receipt.
    InlineBytes,
    /// The bytes of outputs, which are fetched afterwards.
    FetchedBytes,
    /// Outputs are named that nobody has.
    Nothing,
    /// Outputs are named and sent that the thunk does not come to.
    Outputs,
}

impl Lie {
    /// All that are found out without running anything once more.
    pub(crate) const PLAIN: [Self; 4] =
        [Self::Signature, Self::InlineBytes, Self::FetchedBytes, Self::Nothing];

    /// What the liar is called.
    pub(crate) fn name(self) -> String {
        format!("liar-{self:?}")
    }
}

/// A liar at work; ends when it is dropped.
pub(crate) struct Liar {
    network: std::sync::Arc<dyn Network>,
    key: Key,
    requester: PeerId,
    lie: Lie,
    home: tempfile::TempDir,
    /// Leases that it was given, as they come.
    leased: mpsc::Sender<Lie>,
}

const TRUTH: &[u8] = b"what an output might be";
const FALSEHOOD: &[u8] = b"what is sent in place of";

impl Liar {
    /// Joins by a ticket.
    pub(crate) async fn join(ticket: &str, lie: Lie, leased: mpsc::Sender<Lie>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path: &Path = home.path();
        let ticket: Ticket = ticket.parse().unwrap();
        let requester = ticket.issuer;
        let membership = Membership::invited(path, ticket, &lie.name(), false).unwrap();
        let key = membership.key().clone();
        let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
        let config = SwarmConfig { listen, mdns: false, ..SwarmConfig::default() };
        let Started { network, events, handle, .. } = start(membership, config).unwrap();
        handle.joined(|state| *state == JoinState::Joined).await.unwrap();
        tokio::spawn(serve(events, lie));
        Self { network, key, requester, lie, home, leased }
    }

    /// Claims from who let it in, again and again, until that one has had enough.
    pub(crate) async fn work(self) {
        // Refused streams are not what is tested here.
        for _ in 0..10 {
            let Ok(stream) = self.network.open(self.requester, Service::Claim).await else {
                continue;
            };
            let _ = self.claim(stream).await;
        }
        drop(self.home);
    }

    async fn claim(&self, mut stream: BoxStream) -> io::Result<()> {
        let platform = Platform::host().unwrap();
        let capabilities =
            Capabilities { platform, cores: 4, memory_mib: 1 << 16, speed_permille: 1000 };
        let window = Window { slots: 2, prefetch: 0 };
        let open = Open { capabilities, window, holds: BTreeSet::new() };
        say(&mut stream, &FromWorker::Open(open)).await?;
        loop {
            let bytes = hear(&mut stream).await?;
            let message = FromRequester::decode(&bytes).map_err(io::Error::other)?;
            match message {
                FromRequester::Lease(lease) => {
                    let _ = self.leased.try_send(self.lie);
                    say(&mut stream, &FromWorker::Started(lease.lease)).await?;
                    let receipt = Box::new(self.receipt(&lease));
                    say(&mut stream, &FromWorker::Receipt(receipt)).await?;
                }
                FromRequester::Alive => {
                    say(&mut stream, &FromWorker::Heartbeat(BTreeSet::new())).await?;
                }
                _ => {}
            }
        }
    }

    /// As if it had run the thunk, and every output were the same.
    fn receipt(&self, lease: &Lease) -> Receipt {
        // Never the same name twice: what is known to be there is not fetched.
        let unheard_of = format!("output of {} by {:?}", lease.thunk, self.lie);
        let name = match self.lie {
            Lie::Signature | Lie::InlineBytes | Lie::Outputs => ValueName::of(TRUTH),
            Lie::FetchedBytes | Lie::Nothing => ValueName::of(unheard_of.as_bytes()),
        };
        let thunk = lease.bytes.as_ref().map(|bytes| Thunk::decode(bytes).unwrap());
        let tags = thunk.iter().flat_map(|thunk| thunk.spec().outputs.keys().cloned());
        let object = || OutputObject::File { name, executable: false };
        let reduction = Reduction {
            thunk: lease.thunk,
            outputs: tags.map(|tag| (tag, object())).collect(),
            stdout: name,
            stderr: name,
            usage: Usage::default(),
            executor: self.network.own().to_string(),
            finished_at_s: 0,
        };
        let mut signature = self.key.sign(&reduction.encode().unwrap());
        if self.lie == Lie::Signature {
            signature[1][5] ^= 4;
        }
        let inline = |bytes: &[u8]| vec![InlineObject { name, bytes: bytes.to_vec() }];
        let objects = match self.lie {
            Lie::Signature | Lie::Outputs => inline(TRUTH),
            Lie::InlineBytes => inline(FALSEHOOD),
            Lie::FetchedBytes | Lie::Nothing => Vec::new(),
        };
        let end = Ok(SignedReduction { reduction, signature, remembered: false });
        Receipt { lease: lease.lease, end, objects, timeline: Timeline::default() }
    }
}

/// Who asks for an object gets bytes, of the right length, that are not it; or no answer.
async fn serve(mut events: mpsc::Receiver<NetworkEvent>, lie: Lie) {
    while let Some(event) = events.recv().await {
        if let NetworkEvent::Incoming { service: Service::Transfer, stream, .. } = event
            && lie == Lie::FetchedBytes
        {
            tokio::spawn(give_false_bytes(stream));
        }
    }
}

async fn give_false_bytes(mut stream: BoxStream) -> io::Result<()> {
    loop {
        let want = Want::decode(&hear(&mut stream).await?).map_err(io::Error::other)?;
        for (item, range) in (0..).zip(want.items) {
            let mut left = range.length;
            while left > 0 {
                let length = left.min(TRANSFER_PIECE_BYTES.into()) as u32;
                left -= u64::from(length);
                let piece =
                    Answer::Piece { item, length, encoding: Encoding::Plain, proof: Vec::new() };
                say_bytes(&mut stream, &piece.encode().unwrap()).await?;
                say_bytes(&mut stream, &vec![b'?'; length as usize]).await?;
            }
        }
    }
}

async fn say(stream: &mut BoxStream, message: &FromWorker) -> io::Result<()> {
    say_bytes(stream, &message.encode().unwrap()).await
}

async fn say_bytes(stream: &mut BoxStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn hear(stream: &mut BoxStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u32_le().await? as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
