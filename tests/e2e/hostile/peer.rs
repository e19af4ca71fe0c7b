//! A peer of the test's own, which speaks as far as it likes: TCP, knock, Noise, admission, Yamux.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::core::upgrade::OutboundConnectionUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::identity::Keypair;
use libp2p::{noise, tcp, yamux};
use mesh_node::net::identity::Key;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{
    Certificate, FromDialer, FromListener, Grant, MeshId, Roles, SignedGrant, knock,
};
use mesh_tests::Members;
use tokio::sync::mpsc;

type Socket = tcp::tokio::TcpStream;
pub(crate) type Secured = noise::Output<Socket>;

const HOUR_S: u64 = 3600;

/// More than a node allows, and as many as our own Yamux does.
const STREAMS: usize = 4096;

/// What a hostile peer knows of its victim, the mesh's own key included.
pub(crate) struct Knowledge {
    address: Multiaddr,
    pub(crate) mesh: MeshId,
    mesh_key: Key,
}

impl Knowledge {
    /// Of the first of these members.
    pub(crate) fn of(members: &Members) -> Self {
        let path = members.home(0).home().join("identity/mesh.key");
        let mesh_key = Key::load(&path).unwrap().unwrap();
        let address = members.address(0).parse().unwrap();
        Self { address, mesh: MeshId(mesh_key.public()), mesh_key }
    }

    /// A connection on which nothing has been said.
    pub(crate) async fn dial(&self) -> Socket {
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default());
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        transport.dial(self.address.clone(), options).unwrap().await.unwrap()
    }

    /// One with knock and Noise done.
    pub(crate) async fn secure(&self, keypair: &Keypair) -> io::Result<Secured> {
        let mut socket = self.dial().await;
        socket.write_all(&knock(self.mesh, [3; 8])).await?;
        let noise = noise::Config::new(keypair).unwrap();
        let (_, io) = noise.upgrade_outbound(socket, "").await.map_err(io::Error::other)?;
        Ok(io)
    }

    /// A certificate by the mesh's key, as `change` makes it.
    pub(crate) fn certificate(
        &self,
        keypair: &Keypair,
        change: impl FnOnce(&mut Grant),
    ) -> Certificate {
        let now_s = mesh_node::net::membership::now_s();
        let public = keypair.public().try_into_ed25519().unwrap().to_bytes();
        let mut grant = Grant {
            mesh: self.mesh,
            peer: PeerId(public),
            roles: Roles::MEMBER,
            name: "hostile".to_owned(),
            issued_s: now_s - HOUR_S,
            expires_s: now_s + HOUR_S,
        };
        change(&mut grant);
        let signature = self.mesh_key.sign(&grant.signed_bytes().unwrap());
        Certificate { member: SignedGrant { grant, signature }, admin: None }
    }

    /// An admitted connection: what comes after it is up to the caller.
    pub(crate) async fn enter(&self) -> io::Result<Secured> {
        let keypair = Keypair::generate_ed25519();
        let mut io = self.secure(&keypair).await?;
        hear(&mut io).await?;
        let certificate = Box::new(self.certificate(&keypair, |_| ()));
        say(&mut io, &FromDialer::Certificate(certificate).encode().unwrap()).await?;
        let welcome = FromListener::decode(&hear(&mut io).await?).map_err(io::Error::other)?;
        assert!(!matches!(welcome, FromListener::Challenge { .. }), "no welcome: {welcome:?}");
        Ok(io)
    }

    /// Streams of one admitted connection, as many as are taken from the channel and as the other
    /// end allows.
    pub(crate) async fn streams(&self) -> io::Result<mpsc::Receiver<SubstreamBox>> {
        let io = self.enter().await?;
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS);
        let muxer = config.upgrade_outbound(io, "").await?;
        let (give, taken) = mpsc::channel(1);
        tokio::spawn(drive(StreamMuxerBox::new(muxer), give));
        Ok(taken)
    }
}

/// Opens streams as they are taken, and keeps the connection going.
async fn drive(mut muxer: StreamMuxerBox, give: mpsc::Sender<SubstreamBox>) {
    loop {
        let permit = tokio::select! {
            permit = give.reserve() => permit,
            _ = poll_fn(|context| muxer.poll_unpin(context)) => continue,
        };
        let Ok(permit) = permit else { break };
        let opened = poll_fn(|context| {
            if let Poll::Ready(Err(error)) = muxer.poll_unpin(context) {
                return Poll::Ready(Err(error));
            }
            muxer.poll_outbound_unpin(context)
        });
        match opened.await {
            Ok(stream) => permit.send(stream),
            Err(_) => return,
        }
    }
    // Nobody takes any more, but those there are may be in use.
    while poll_fn(|context| muxer.poll_unpin(context)).await.is_ok() {}
}

/// A message of admission.
pub(crate) async fn say(io: &mut Secured, message: &[u8]) -> io::Result<()> {
    say_frame(io, message.len() as u16, message).await
}

/// The same with any length before it.
pub(crate) async fn say_frame(io: &mut Secured, length: u16, bytes: &[u8]) -> io::Result<()> {
    io.write_all(&[&length.to_le_bytes(), bytes].concat()).await?;
    io.flush().await
}

/// The next message of admission.
pub(crate) async fn hear(io: &mut Secured) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    io.read_exact(&mut length).await?;
    let mut bytes = vec![0; u16::from_le_bytes(length).into()];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Asks for a protocol on a new stream (multistream-select 1.0), without waiting for the answer.
pub(crate) async fn ask_for(stream: &mut SubstreamBox, protocol: &str) -> io::Result<()> {
    for line in ["/multistream/1.0.0", protocol] {
        // A length below 128 is one byte.
        let length = u8::try_from(line.len() + 1).unwrap();
        assert!(length < 128);
        stream.write_all(&[&[length], line.as_bytes(), b"\n"].concat()).await?;
    }
    stream.flush().await
}

/// What comes until the other end closes or resets.
pub(crate) async fn rest(mut io: impl libp2p::futures::AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = io.read_to_end(&mut bytes).await;
    bytes
}
