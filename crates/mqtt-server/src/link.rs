//! The two ends of a connection, whatever carries it.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Room that is made for a read before there is a session. Strangers may leave it half used, many at a time.
const FIRST_CHUNK: usize = 1_024;

/// Room that is made for a read.
const READ_CHUNK: usize = 16 * 1024;

thread_local! {
    /// Where bytes of streams are read to, so that a connection that is silent needs no buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_CHUNK]);
}

/// Bytes both ways: TLS, a WebSocket, or a client in this process.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What connects a client.
pub(crate) enum Link {
    Tcp(TcpStream),
    /// Stays with the runtime that it was made in, which also says when it can be read; whichever thread polls it
    /// does the cryptography.
    Stream(Box<dyn Stream>),
}

/// A link on its way to another thread: a socket belongs to one runtime at a time.
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Stream(Box<dyn Stream>),
}

pub(crate) enum Reader {
    Tcp(OwnedReadHalf),
    Stream(ReadHalf<Box<dyn Stream>>),
}

pub(crate) enum Writer {
    Tcp(OwnedWriteHalf),
    Stream(WriteHalf<Box<dyn Stream>>),
}

impl Link {
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Stream(stream) => Detached::Stream(stream),
        })
    }

    pub(crate) fn split(self) -> (Reader, Writer) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Self::Stream(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (Reader::Stream(reader), Writer::Stream(writer))
            }
        }
    }

    /// Appends what comes next to `input`; 0: the other side has ended. No buffer is held while nothing comes.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_when_ready(stream, input, FIRST_CHUNK).await,
            Self::Stream(stream) => read_through_scratch(stream, input).await,
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Stream(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Stream(stream) => stream.shutdown().await,
        }
    }
}

impl Detached {
    /// Makes the link one of this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Link> {
        Ok(match self {
            Self::Tcp(stream) => Link::Tcp(TcpStream::from_std(stream)?),
            Self::Stream(stream) => Link::Stream(stream),
        })
    }
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Reader {
    /// Appends what comes next to `input`; 0: the other side has ended. No buffer is held while nothing comes.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(reader) => read_when_ready(reader.as_ref(), input, READ_CHUNK).await,
            Self::Stream(reader) => read_through_scratch(reader, input).await,
        }
    }
}

async fn read_when_ready(stream: &TcpStream, input: &mut BytesMut, room: usize) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        input.reserve(room);
        match stream.try_read_buf(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if input.is_empty() {
                    *input = BytesMut::new();
                }
            }
            result => return result,
        }
    }
}

async fn read_through_scratch<S>(stream: &mut S, input: &mut BytesMut) -> io::Result<usize>
where
    S: AsyncRead + Unpin,
{
    std::future::poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    input.extend_from_slice(buffer.filled());
                    Poll::Ready(Ok(buffer.filled().len()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
    })
    .await
}

impl Writer {
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.write_all(bytes).await,
            Self::Stream(writer) => {
                writer.write_all(bytes).await?;
                writer.flush().await
            }
        }
    }

    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.shutdown().await,
            Self::Stream(writer) => writer.shutdown().await,
        }
    }
}
