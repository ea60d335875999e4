//! From an accepted socket to a stream of MQTT: TLS, WebSocket, both or neither.

pub(crate) mod budget;
pub(crate) mod tls;

use std::io;
use std::sync::Arc;

use mqtt_io::websocket::{self, Offer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::budget::{Budget, Metered};
use self::tls::{Names, Tls};
use crate::config::{ListenerConfig, WebSocketConfig};
use crate::link::{Link, Stream};

/// What the connections of a listener go through.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) tls: Option<Tls>,
    websocket: Option<WebSocketConfig>,
    accepts_anonymous: bool,
    max_message_size: usize,
}

impl Transport {
    pub(crate) fn load(
        config: &ListenerConfig,
        max_message_size: usize,
    ) -> Result<Self, mqtt_io::tls::TlsError> {
        let protocol: &[u8] = if config.websocket.is_some() { b"http/1.1" } else { b"mqtt" };
        let tls = config.tls.clone().map(|tls| Tls::load(tls, protocol)).transpose()?;
        let websocket = config.websocket.clone();
        Ok(Self { tls, websocket, accepts_anonymous: config.accepts_anonymous(), max_message_size })
    }

    /// Makes a link of a socket. All that is read for it is taken from `budget`.
    pub(crate) async fn establish(
        &self,
        socket: TcpStream,
        budget: &Arc<Budget>,
    ) -> io::Result<(Link, Names)> {
        if self.tls.is_none() && self.websocket.is_none() {
            return Ok((Link::Tcp(socket), Names::default()));
        }
        // This is large, and connections that have it wait here for their clients.
        Box::pin(self.establish_stream(Metered::new(socket, Arc::clone(budget)))).await
    }

    async fn establish_stream(&self, socket: Metered<TcpStream>) -> io::Result<(Link, Names)> {
        let Some(tls) = &self.tls else {
            return Ok((Link::Stream(self.upgrade(socket).await?), Names::default()));
        };
        let stream = TlsAcceptor::from(tls.current()).accept(socket).await?;
        let names = tls.names(stream.get_ref().1);
        let names = names.map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        Ok((Link::Stream(self.upgrade(stream).await?), names))
    }

    async fn upgrade<S: Stream + 'static>(&self, stream: S) -> io::Result<Box<dyn Stream>> {
        let Some(websocket) = &self.websocket else { return Ok(Box::new(stream)) };
        let allows_origin = |origin: &str| match &websocket.allowed_origins {
            Some(allowed) => allowed.iter().any(|allowed| allowed == origin),
            None => !self.accepts_anonymous || is_of_this_machine(origin),
        };
        let offer = Offer {
            path: &websocket.path,
            max_message_size: self.max_message_size,
            allows_origin: &allows_origin,
        };
        Ok(Box::new(websocket::accept(stream, offer).await?))
    }
}

/// Whether a page comes from this machine: `http://localhost:8080` and the like.
fn is_of_this_machine(origin: &str) -> bool {
    let Some((_, host)) = origin.split_once("://") else { return false };
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_are_told_from_those_that_look_like_it() {
        for origin in ["http://localhost", "http://localhost:18083", "https://127.0.0.1:1", "http://[::1]:80"]
        {
            assert!(is_of_this_machine(origin), "{origin}");
        }
        for origin in
            ["null", "", "https://localhost.example", "https://example:80", "http://127.0.0.1.example"]
        {
            assert!(!is_of_this_machine(origin), "{origin}");
        }
    }
}
