//! A connection between two nodes of one process, and the streams over it.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// How a link is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum LinkState {
    /// Bytes go through.
    #[default]
    Up,
    /// They wait.
    Silent,
    /// Its streams have failed, for ever.
    Cut,
}

/// What all streams between two nodes share.
#[derive(Default)]
pub(super) struct Link(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    state: LinkState,
    /// Who waits for bytes or for room, by stream end and direction: all must hear of a change.
    waiting: BTreeMap<(u64, bool), Waker>,
    ends: u64,
}

impl Link {
    pub(super) fn state(&self) -> LinkState {
        self.lock().state
    }

    pub(super) fn set(&self, state: LinkState) {
        let woken = {
            let mut inner = self.lock();
            inner.state = state;
            std::mem::take(&mut inner.waiting)
        };
        woken.into_values().for_each(Waker::wake);
    }

    /// Ready if bytes may go; else the task is woken when that changes.
    fn poll_up(&self, end: u64, reads: bool, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        if inner.state == LinkState::Cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        inner.waiting.insert((end, reads), context.waker().clone());
        match inner.state {
            LinkState::Silent => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One end of a stream.
pub(super) struct LinkStream {
    bytes: DuplexStream,
    link: Arc<Link>,
    end: u64,
}

impl LinkStream {
    pub(super) fn new(bytes: DuplexStream, link: Arc<Link>) -> Self {
        let end = {
            let mut inner = link.lock();
            inner.ends += 1;
            inner.ends
        };
        Self { bytes, link, end }
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        let mut inner = self.link.lock();
        inner.waiting.remove(&(self.end, true));
        inner.waiting.remove(&(self.end, false));
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.link.poll_up(self.end, true, context))?;
        Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.link.poll_up(self.end, false, context))?;
        Pin::new(&mut self.bytes).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }
}
