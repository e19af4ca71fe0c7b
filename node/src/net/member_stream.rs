//! libp2p's streams as tokio's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use libp2p::Stream;
use libp2p::futures::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream to or from a member.
#[derive(Debug)]
pub(super) struct MemberStream {
    stream: Stream,
    _user: Option<User>,
}

impl MemberStream {
    /// With who uses the connection as long as there is this stream.
    pub(super) fn new(stream: Stream, user: Option<User>) -> Self {
        Self { stream, _user: user }
    }
}

/// The connections to one member, as something that is used or not.
#[derive(Debug, Default)]
pub(super) struct Usage(Arc<()>);

impl Usage {
    /// Is there somebody who uses them?
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Somebody who uses them until this is dropped.
    pub(super) fn user(&self) -> User {
        User { _usage: self.0.clone() }
    }
}

/// One who uses the connections to a member.
#[derive(Debug)]
pub(super) struct User {
    _usage: Arc<()>,
}

impl AsyncRead for MemberStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Costs zeroing once per buffer: who reads keeps it.
        let space = buffer.initialize_unfilled();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, space))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemberStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
