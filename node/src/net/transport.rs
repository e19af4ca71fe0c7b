//! Connections: TCP, a knock, Noise, admission, Yamux - one step after the other, with nothing to
//! negotiate, so that a stranger is offered nothing.
//!
//! Whoever has not been admitted holds a place in the door for a bounded time; the places are few.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{dns, noise, tcp, yamux};
use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::time::Time;
use mesh_protocol::wire::admission::{
    Admission, Certificate, Input, KNOCK_BYTES, Output, Pass, Refusal, Session, is_knock, knock,
};
use thiserror::Error;

use super::door::{Refusals, Refused, Waiting, origin};
use super::identity::{from_libp2p, random};
use super::membership::{Membership, MembershipError, Shared, now_s};

/// Streams of one connection at once: claims, transfers, gossip, and 100 opened in parallel.
const STREAMS: usize = 1024;

/// Why a connection came to nothing.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    /// One of the two ends does not want the other.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node is no member, and its ticket is for another listener.
    #[error("this node is not a member yet")]
    NoPass,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Noise(#[from] noise::Error),
}

/// What all connections of a node share.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) membership: Shared,
    pub(super) waiting: Waiting,
    pub(super) refusals: Refusals,
    /// From the first byte to admission.
    pub(super) patience: Duration,
}

type Connection = (libp2p::PeerId, StreamMuxerBox);

/// TCP, with host names if this machine can look them up.
pub(super) fn transport(door: Door) -> Boxed<Connection> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    match dns::tokio::Transport::system(tcp()) {
        Ok(dns) => through(dns, door),
        Err(error) => {
            tracing::warn!("host names cannot be looked up: {error}");
            through(tcp(), door)
        }
    }
}

fn through<T, S>(transport: T, door: Door) -> Boxed<Connection>
where
    T: Transport<Output = S> + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
    T::Error: Send + Sync + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let door = Arc::new(door);
    transport
        .and_then(move |socket, point| admit_in_time(door, socket, point))
        .map_err(|error| {
            error.either(|below| ConnectError::Io(io::Error::other(below)), |ours| ours)
        })
        .boxed()
}

async fn admit_in_time<S>(
    door: Arc<Door>,
    socket: S,
    point: ConnectedPoint,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let from = match &point {
        ConnectedPoint::Listener { send_back_addr, .. } => Some(origin(send_back_addr)),
        ConnectedPoint::Dialer { .. } => None,
    };
    let mut place = from.map(|from| door.waiting.enter(from));
    let lost = async {
        match &mut place {
            Some(place) => place.lost().await,
            None => std::future::pending().await,
        }
    };
    let mut who = from.map(Refused::Origin);
    let admitted = tokio::select! {
        admitted = tokio::time::timeout(door.patience, door.admit(socket, point, &mut who)) => {
            admitted.unwrap_or(Err(Refusal::TimedOut.into()))
        }
        // Others come faster.
        () = lost => Err(Refusal::TimedOut.into()),
    };
    let admitted = admitted.map_err(|error| match reason(&error) {
        Some(refusal) => refusal.into(),
        None => error,
    });
    if let (Err(error), Some(who)) = (&admitted, who)
        && let Some(refusal) = reason(error)
    {
        door.refusals.note(who, refusal);
    }
    admitted
}

/// What a failed connection says of its other end.
fn reason(error: &ConnectError) -> Option<Refusal> {
    match error {
        ConnectError::Refused(refusal) => Some(*refusal),
        ConnectError::Noise(noise::Error::Io(error)) | ConnectError::Io(error) => {
            match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    Some(Refusal::Closed)
                }
                // What does not decrypt.
                io::ErrorKind::InvalidData => Some(Refusal::Malformed),
                _ => None,
            }
        }
        ConnectError::Noise(_) => Some(Refusal::Malformed),
        ConnectError::NoPass => None,
    }
}

impl Door {
    async fn admit<S>(
        &self,
        mut socket: S,
        point: ConnectedPoint,
        who: &mut Option<Refused>,
    ) -> Result<Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mesh = self.membership.lock().mesh();
        let noise = noise::Config::new(&self.membership.lock().key().keypair())?;
        let yamux = {
            let mut config = yamux::Config::default();
            config.set_max_num_streams(STREAMS);
            config
        };
        let dials = point.is_dialer();
        if dials {
            socket.write_all(&knock(mesh, random()?)).await?;
            let (peer, mut io) = noise.upgrade_outbound(socket, "").await?;
            self.settle(&mut io, peer, dials, who).await?;
            let muxer = yamux.upgrade_outbound(io, "").await?;
            return Ok((peer, StreamMuxerBox::new(muxer)));
        }
        let mut bytes = [0; KNOCK_BYTES];
        socket.read_exact(&mut bytes).await?;
        if !is_knock(mesh, &bytes) {
            return Err(Refusal::WrongMesh.into());
        }
        let (peer, mut io) = noise.upgrade_inbound(socket, "").await?;
        self.settle(&mut io, peer, dials, who).await?;
        let muxer = yamux.upgrade_inbound(io, "").await?;
        Ok((peer, StreamMuxerBox::new(muxer)))
    }

    /// Runs the admission machine over an encrypted connection.
    async fn settle<S>(
        &self,
        io: &mut S,
        peer: libp2p::PeerId,
        dials: bool,
        who: &mut Option<Refused>,
    ) -> Result<(), ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let other = from_libp2p(&peer).ok_or(Refusal::Forged)?;
        *who = Some(Refused::Peer(other));
        let session = self.session(other);
        let mut out = Vec::new();
        let mut machine = match dials {
            true => Admission::dial(Time::ZERO, session, self.pass(other)?),
            false => {
                let own = self.membership.lock().certificate().cloned();
                let own = Box::new(own.ok_or(ConnectError::NoPass)?);
                Admission::listen(Time::ZERO, session, own, random()?, &mut out)
            }
        };
        loop {
            for output in std::mem::take(&mut out) {
                match output {
                    Output::Send(message) => send(io, &message).await?,
                    Output::Redeem { ticket, name, is_ephemeral } => {
                        // The use is on the disk before the certificate is given away.
                        let redeem = move |membership: &mut Membership| {
                            membership.redeem(ticket, other, (&name, is_ephemeral), session.now_s)
                        };
                        let granted = self.membership.commit(redeem).await.map(Box::new);
                        self.step(&mut machine, Input::Granted(granted), &mut out);
                    }
                    Output::Refused(refusal) => {
                        // Whoever may hear why should, before the connection is reset.
                        let _ = io.close().await;
                        return Err(refusal.into());
                    }
                    Output::Admitted { certificate, granted } => {
                        let granted = granted.map(|granted| *granted);
                        return self.admitted(*certificate, granted, session.now_s).await;
                    }
                }
            }
            if out.is_empty() {
                match receive(io).await {
                    Ok(bytes) => self.step(&mut machine, Input::Message(&bytes), &mut out),
                    Err(ConnectError::Io(error))
                        if error.kind() == io::ErrorKind::UnexpectedEof =>
                    {
                        self.step(&mut machine, Input::Closed, &mut out);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn session(&self, other: PeerId) -> Session {
        let membership = self.membership.lock();
        let (mesh, own) = (membership.mesh(), membership.own());
        // The whole connection has a deadline already.
        Session { mesh, own, other, now_s: now_s(), patience_us: limits::ADMISSION_US }
    }

    /// How we get in there. A ticket is shown to who issued it, and to nobody else.
    fn pass(&self, other: PeerId) -> Result<Pass, ConnectError> {
        let membership = self.membership.lock();
        if let Some(own) = membership.certificate() {
            return Ok(Pass::Certificate(Box::new(own.clone())));
        }
        let ticket = membership.ticket().filter(|ticket| ticket.issuer == other);
        let name = membership.name().to_owned();
        ticket.map_or(Err(ConnectError::NoPass), |ticket| {
            let is_ephemeral = membership.is_ephemeral();
            Ok(Pass::Ticket { secret: ticket.secret, name, is_ephemeral })
        })
    }

    fn step(&self, machine: &mut Admission, input: Input<'_>, out: &mut Vec<Output>) {
        machine.handle(Time::ZERO, input, &*self.membership.lock(), out);
    }

    /// Takes note of a member, and of having become one.
    async fn admitted(
        &self,
        certificate: Certificate,
        granted: Option<Certificate>,
        now_s: u64,
    ) -> Result<(), ConnectError> {
        let Some(granted) = granted else {
            // Saved when there is time.
            self.membership.lock().comes(certificate, now_s);
            return Ok(());
        };
        let join = move |membership: &mut Membership| {
            // Who let us in is whom we go to after a crash.
            membership.comes(certificate.clone(), now_s);
            membership.join_granted(granted.clone());
            Ok::<_, MembershipError>(())
        };
        let joined = self.membership.commit(join).await;
        joined.map_err(|error| ConnectError::Io(io::Error::other(error)))
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), ConnectError> {
    let length = u16::try_from(message.len()).map_err(|_| Refusal::Oversized)?;
    io.write_all(&[&length.to_le_bytes(), message].concat()).await?;
    Ok(io.flush().await?)
}

async fn receive(io: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ConnectError> {
    let mut length = [0; 2];
    io.read_exact(&mut length).await?;
    let length = u16::from_le_bytes(length);
    if u64::from(length) > limits::ADMISSION_BYTES {
        return Err(Refusal::Oversized.into());
    }
    let mut bytes = vec![0; length.into()];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}
