//! The two ends of a connection, whatever carries it.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Room that is made for a read.
const READ_CHUNK: usize = 16 * 1024;

/// What connects a client.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(TcpStream),
    /// A client in this process.
    Local(DuplexStream),
}

/// A link on its way to another thread: a socket belongs to one runtime at a time.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    Local(DuplexStream),
}

#[derive(Debug)]
pub(crate) enum Reader {
    Tcp(OwnedReadHalf),
    Local(ReadHalf<DuplexStream>),
}

#[derive(Debug)]
pub(crate) enum Writer {
    Tcp(OwnedWriteHalf),
    Local(WriteHalf<DuplexStream>),
}

impl Link {
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Tcp(stream) => Detached::Tcp(stream.into_std()?),
            Self::Local(stream) => Detached::Local(stream),
        })
    }

    pub(crate) fn split(self) -> (Reader, Writer) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (Reader::Tcp(reader), Writer::Tcp(writer))
            }
            Self::Local(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (Reader::Local(reader), Writer::Local(writer))
            }
        }
    }

    /// Appends what comes next to `input`; 0: the other side has ended.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        input.reserve(1_024);
        match self {
            Self::Tcp(stream) => stream.read_buf(input).await,
            Self::Local(stream) => stream.read_buf(input).await,
        }
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Local(stream) => stream.write_all(bytes).await,
        }
    }
}

impl Detached {
    /// Makes the link one of this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<Link> {
        Ok(match self {
            Self::Tcp(stream) => Link::Tcp(TcpStream::from_std(stream)?),
            Self::Local(stream) => Link::Local(stream),
        })
    }
}

impl Reader {
    /// Appends what comes next to `input`; 0: the other side has ended. A connection that is silent has no
    /// buffer: room is made once there is something to be read.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(reader) => loop {
                reader.readable().await?;
                input.reserve(READ_CHUNK);
                match reader.try_read_buf(input) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            },
            Self::Local(reader) => {
                input.reserve(READ_CHUNK);
                reader.read_buf(input).await
            }
        }
    }
}

impl Writer {
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.write_all(bytes).await,
            Self::Local(writer) => writer.write_all(bytes).await,
        }
    }

    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.shutdown().await,
            Self::Local(writer) => writer.shutdown().await,
        }
    }
}
