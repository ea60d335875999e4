//! `[[listeners]]` and `[access]` of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use mqtt_server::{
    AccessConfig, CertificateField, CertificateFiles, ListenerConfig, TlsConfig, WebSocketConfig,
};
use serde::Deserialize;

/// An address on which clients connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// What logs call it.
    pub(crate) name: String,
    /// The transport.
    #[serde(rename = "type")]
    pub(crate) transport: Transport,
    pub(crate) bind: SocketAddr,
    /// Whether clients need no credentials. On a loopback address they don't unless this is `false`; beyond
    /// loopback it has to be said, because anybody who reaches the address can then read and write
    /// everything that the rules let everybody.
    #[serde(default)]
    pub(crate) allow_anonymous: Option<bool>,
    /// TLS, which `tls` and `wss` need and the others do not have.
    #[serde(default)]
    pub(crate) tls: Option<Tls>,
    /// The path of `ws` and `wss`: `/mqtt`.
    #[serde(default)]
    pub(crate) path: Option<String>,
    /// Web pages that may connect to `ws` and `wss`, by their origin.
    #[serde(default)]
    pub(crate) allowed_origins: Option<Vec<String>>,
}

/// The transports that a listener can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Tcp,
    Tls,
    Ws,
    Wss,
}

/// TLS of a listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// Certificates for other names, which clients ask for by SNI.
    #[serde(default)]
    more_certificates: Vec<Pair>,
    client_ca: Option<PathBuf>,
    verify_client: Option<bool>,
    crl: Option<PathBuf>,
    #[serde(default = "tls_1_2")]
    min_version: String,
    /// Where the user name is taken from: `cn` or `dn` of the client's certificate.
    username_from: Option<Field>,
    /// Where the Client Identifier is taken from: `cn` or `dn` of the client's certificate.
    client_id_from: Option<Field>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// A field of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Field {
    Cn,
    Dn,
}

/// Who may connect, and what they may do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Access {
    /// Users and their hashed passwords; `trellis passwd` writes it.
    password_file: Option<PathBuf>,
    /// Rules. Without it everybody who may connect may do everything.
    acl_file: Option<PathBuf>,
}

fn tls_1_2() -> String {
    "1.2".to_owned()
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WebSocket",
            Self::Wss => "secure WebSocket",
        }
    }
}

impl Listener {
    /// What the server is told.
    ///
    /// # Errors
    /// When the settings do not go with the transport.
    pub(crate) fn to_server(&self) -> anyhow::Result<ListenerConfig> {
        let (name, transport) = (&self.name, self.transport);
        let has_tls = matches!(transport, Transport::Tls | Transport::Wss);
        let has_websocket = matches!(transport, Transport::Ws | Transport::Wss);
        anyhow::ensure!(
            has_tls == self.tls.is_some(),
            "listener {name:?}: {} {} a tls = {{ certificate = …, key = … }}",
            transport.name(),
            if has_tls { "needs" } else { "does not have" }
        );
        anyhow::ensure!(
            has_websocket || (self.path.is_none() && self.allowed_origins.is_none()),
            "listener {name:?}: path and allowed_origins are for ws and wss only"
        );
        let websocket = has_websocket.then(|| WebSocketConfig {
            path: self.path.clone().unwrap_or_else(|| WebSocketConfig::default().path),
            allowed_origins: self.allowed_origins.clone(),
        });
        Ok(ListenerConfig {
            name: name.clone(),
            bind: self.bind,
            allow_anonymous: self.allow_anonymous,
            tls: self.tls.clone().map(TlsConfig::from),
            websocket,
        })
    }
}

impl From<Tls> for TlsConfig {
    fn from(tls: Tls) -> Self {
        let pair = |Pair { certificate, key }| CertificateFiles { certificate, key };
        Self {
            more_certificates: tls.more_certificates.into_iter().map(pair).collect(),
            client_ca: tls.client_ca,
            verify_client: tls.verify_client,
            crl: tls.crl,
            min_version: tls.min_version,
            username_from: tls.username_from.map(CertificateField::from),
            client_id_from: tls.client_id_from.map(CertificateField::from),
            ..Self::new(tls.certificate, tls.key)
        }
    }
}

impl From<Field> for CertificateField {
    fn from(field: Field) -> Self {
        match field {
            Field::Cn => Self::CommonName,
            Field::Dn => Self::DistinguishedName,
        }
    }
}

impl Access {
    /// What the server is told.
    pub(crate) fn to_server(&self) -> AccessConfig {
        AccessConfig { password_file: self.password_file.clone(), acl_file: self.acl_file.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_to_go_with_the_transport() {
        let listener = |text: &str| toml::from_str::<Listener>(text).unwrap().to_server();
        let head = "name = 'a'\nbind = '127.0.0.1:0'\n";
        let tls = "tls = { certificate = 'c', key = 'k', client_ca = 'ca', username_from = 'cn' }\n";
        let full = listener(&format!("{head}type = 'wss'\npath = '/x'\n{tls}")).unwrap();
        let config = full.tls.unwrap();
        assert_eq!(config.username_from, Some(CertificateField::CommonName));
        assert_eq!((full.websocket.unwrap().path.as_str(), config.min_version.as_str()), ("/x", "1.2"));
        for bad in ["type = 'tls'", "type = 'tcp'\npath = '/x'", "type = 'tls'\nallowed_origins = []"] {
            assert!(listener(&format!("{head}{bad}")).is_err(), "{bad}");
        }
        assert!(listener(&format!("{head}type = 'tcp'\n{tls}")).is_err());
    }
}
