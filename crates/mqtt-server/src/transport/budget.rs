//! What connections may send before they have a session: bytes, counted over all of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of all connections that have no session yet.
#[derive(Debug)]
pub(crate) struct HandshakeBytes {
    used: AtomicUsize,
    most: usize,
    /// The most of one connection: a CONNECT, and what comes before it.
    most_each: usize,
}

/// What one connection has taken of it, until its session begins or it is gone.
#[derive(Debug)]
pub(crate) struct Budget {
    all: Arc<HandshakeBytes>,
    taken: AtomicUsize,
    is_lifted: AtomicBool,
}

/// A stream whose reads are counted as long as its budget holds.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    budget: Arc<Budget>,
}

impl HandshakeBytes {
    pub(crate) fn new(most: usize, most_each: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), most, most_each })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Arc<Budget> {
        let all = Arc::clone(self);
        Arc::new(Budget { all, taken: AtomicUsize::new(0), is_lifted: AtomicBool::new(false) })
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Budget {
    /// Counts bytes that were read.
    pub(crate) fn take(&self, bytes: usize) -> io::Result<()> {
        if self.is_lifted.load(Ordering::Relaxed) {
            return Ok(());
        }
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let used = self.all.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if taken > self.all.most_each {
            return Err(io::Error::other("it sent too much before its CONNECT"));
        }
        if used > self.all.most {
            return Err(io::Error::other("connections without a session have sent too much together"));
        }
        Ok(())
    }

    /// The session begins: from now on the session's own limits hold.
    pub(crate) fn lift(&self) {
        if !self.is_lifted.swap(true, Ordering::Relaxed) {
            self.all.used.fetch_sub(self.taken.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.lift();
    }
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, budget: Arc<Budget>) -> Self {
        Self { stream, budget }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.budget.take(buf.filled().len() - before))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_once() {
        let all = HandshakeBytes::new(100, 60);
        let (first, second) = (all.begin(), all.begin());
        assert!(first.take(60).is_ok() && second.take(40).is_ok());
        assert_eq!(all.used(), 100);
        assert!(second.take(1).is_err(), "all have taken too much");
        second.lift();
        assert!(second.take(1_000).is_ok(), "its session has begun");
        drop(second);
        assert_eq!(all.used(), 60);
        assert!(first.take(1).is_err(), "one has taken too much");
        drop(first);
        assert_eq!(all.used(), 0);
    }
}
