//! MQTT over WebSocket (MQTT 5.0 §6): packets are bytes in binary messages, and where a message or a frame of it ends
//! says nothing about where a packet does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::Request as ClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{self, StatusCode};
use tokio_tungstenite::tungstenite::{
    self, Message, client::IntoClientRequest as _, protocol::WebSocketConfig,
};

/// The subprotocol of MQTT ([MQTT-6.0.0-3]).
const SUBPROTOCOL: &str = "mqtt";

/// What clients of MQTT 3.1 called it before the standard did.
const OLD_SUBPROTOCOL: &str = "mqttv3.1";

/// Bytes that are read at once. Every connection owns a buffer of this size as long as it lasts.
const READ_BUFFER: usize = 4 * 1024;

/// The longest message that is written; what is longer goes out as several.
const WRITE_CHUNK: usize = 64 * 1024;

/// What a server says to a client that asks for a WebSocket.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// The path at which MQTT is, such as `/mqtt`. A client that asks for another gets status 404.
    pub path: &'a str,
    /// The longest message that is accepted, in bytes.
    pub max_message_size: usize,
    /// Which web pages may connect, by the Origin that browsers send. Others get status 403.
    pub allows_origin: &'a (dyn Fn(&str) -> bool + Sync),
}

/// Bytes over a WebSocket. What is written leaves with the next flush at the latest.
#[derive(Debug)]
pub struct WebSocketBytes<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

/// Answers a client's request for a WebSocket.
///
/// # Errors
/// When the request is none, or is refused; the client has got the HTTP response that says so.
pub async fn accept<S>(stream: S, offer: Offer<'_>) -> io::Result<WebSocketBytes<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let answer = |request: &Request, response: Response| offer.answer(request, response);
    let config = config(offer.max_message_size);
    let socket = tokio_tungstenite::accept_hdr_async_with_config(stream, answer, Some(config)).await;
    Ok(WebSocketBytes { socket: socket.map_err(into_io)?, unread: Bytes::new() })
}

/// Asks a server for a WebSocket at `url` over a stream that leads there; `headers` go with the request.
///
/// # Errors
/// When the URL or a header is malformed, or the server refuses.
pub async fn connect<S>(stream: S, url: &str, headers: &[(String, String)]) -> io::Result<WebSocketBytes<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(url, headers)?;
    let config = config(usize::MAX);
    let (socket, response) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.map_err(into_io)?;
    // [MQTT-6.0.0-4]
    if response.headers().get(SEC_WEBSOCKET_PROTOCOL).is_none_or(|protocol| protocol != SUBPROTOCOL) {
        return Err(invalid("the server does not speak MQTT at this path"));
    }
    Ok(WebSocketBytes { socket, unread: Bytes::new() })
}

fn request(url: &str, headers: &[(String, String)]) -> io::Result<ClientRequest> {
    let mut request = url.into_client_request().map_err(into_io)?;
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| invalid("a header's name is malformed"))?;
        let value = HeaderValue::try_from(value).map_err(|_| invalid("a header's value is malformed"))?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

fn config(max_message_size: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

impl Offer<'_> {
    #[expect(clippy::result_large_err, reason = "the library's type")]
    fn answer(&self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let refusal = |status: StatusCode, text: &str| {
            let mut response = http::Response::new(Some(text.to_owned()));
            *response.status_mut() = status;
            response
        };
        if request.uri().path() != self.path {
            return Err(refusal(StatusCode::NOT_FOUND, "MQTT is at another path\n"));
        }
        let origin = request.headers().get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        if origin.is_some_and(|origin| !(self.allows_origin)(origin)) {
            return Err(refusal(StatusCode::FORBIDDEN, "this page may not connect here\n"));
        }
        let wanted = (request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter())
            .filter_map(|list| list.to_str().ok())
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .find(|protocol| [SUBPROTOCOL, OLD_SUBPROTOCOL].contains(protocol));
        let Some(protocol) = wanted.and_then(|protocol| HeaderValue::from_str(protocol).ok()) else {
            return Err(refusal(StatusCode::BAD_REQUEST, "ask for the subprotocol mqtt\n"));
        };
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        Ok(response)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketBytes<S> {
    /// The stream below.
    pub fn get_ref(&self) -> &S {
        self.socket.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(invalid("a WebSocket message is text, not binary")));
                }
                // The library answers pings and the other side's goodbye.
                Some(Ok(_)) => {}
                None | Some(Err(tungstenite::Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(into_io)?;
        let length = bytes.len().min(WRITE_CHUNK);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket).start_send(message).map_err(into_io)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            // The other side may have said goodbye first.
            Ok(()) | Err(tungstenite::Error::ConnectionClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(into_io(error))),
        }
    }
}

fn into_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl std::fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("path", &self.path).finish_non_exhaustive()
    }
}
