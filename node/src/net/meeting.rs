//! What two members tell each other when they meet: rosters, each on a stream of its own.

use std::io;

use mesh_protocol::limits;
use mesh_protocol::peer::PeerId;
use mesh_protocol::wire::admission::{Farewell, Judge, Revocation};
use mesh_protocol::wire::roster::{Roster, RosterMember};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::identity::Ed25519;
use super::membership::{Shared, now_s};

/// What was news.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Members that are new, or have new addresses.
    pub(super) members: Vec<PeerId>,
    /// Who is one no more.
    pub(super) revocations: Vec<Revocation>,
    /// Who has left.
    pub(super) farewells: Vec<Farewell>,
}

/// Says all that is in a roster of any length.
pub(super) async fn tell(mut stream: impl AsyncWrite + Unpin, roster: Roster) -> io::Result<()> {
    for roster in roster.split() {
        let bytes = roster.encode().map_err(io::Error::other)?;
        // The format's bound fits.
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_le_bytes()).await?;
        stream.write_all(&bytes).await?;
    }
    stream.shutdown().await
}

/// Hears what `from` knows; sends what was news, message by message.
pub(super) async fn hear(
    mut stream: impl AsyncRead + Unpin,
    from: PeerId,
    membership: &Shared,
    news: &mpsc::Sender<News>,
) -> io::Result<()> {
    for _ in 0..limits::ROSTER_MESSAGES {
        let mut length = [0; 4];
        match stream.read_exact(&mut length).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let length = u64::from(u32::from_le_bytes(length));
        if length > limits::ROSTER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        (&mut stream).take(length).read_to_end(&mut bytes).await?;
        let roster = Roster::decode(&bytes).map_err(io::Error::other)?;
        let learnt = learn(from, roster, membership);
        // Nobody hears it when the network ends.
        let _ = news.send(learnt).await;
    }
    Ok(())
}

/// Believes what is signed.
fn learn(from: PeerId, roster: Roster, membership: &Shared) -> News {
    let mesh = membership.lock().mesh();
    let now_s = now_s();
    let mut news = News::default();
    for revocation in roster.revocations {
        // Most are known; checking a signature costs more than looking.
        let is_known = membership.lock().is_revoked(revocation.peer);
        if !is_known
            && revocation.verify(mesh, now_s, &Ed25519).is_ok()
            && membership.lock().learn_revocation(&revocation)
        {
            news.revocations.push(revocation);
        }
    }
    for farewell in roster.farewells {
        let is_known = membership.lock().has_heard(&farewell);
        if !is_known
            && farewell.verify(mesh, now_s, &Ed25519).is_ok()
            && membership.lock().learn_farewell(&farewell)
        {
            news.farewells.push(farewell);
        }
    }
    for RosterMember { certificate, addresses, seen_s } in roster.members {
        let peer = certificate.peer();
        let is_known = {
            let membership = membership.lock();
            membership.member(peer).is_some_and(|known| known.certificate == certificate)
        };
        if is_known || certificate.verify(mesh, peer, now_s, &Ed25519).is_ok() {
            let mut membership = membership.lock();
            let seen_s = if peer == from { now_s } else { seen_s };
            if membership.learn_member(certificate, &addresses, (seen_s, now_s)) {
                news.members.push(peer);
            }
            if peer == from {
                membership.set_addresses(peer, &addresses);
            }
        }
    }
    news
}
