//! TLS of a listener: certificates by name, certificates of clients, and both replaced while it runs.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mqtt_io::tls::{self, TlsError};
use mqtt_wire::Text;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use crate::config::{CertificateField, CertificateFiles, TlsConfig};

/// The TLS of a listener, as its files were when they were last read.
#[derive(Debug)]
pub(crate) struct Tls {
    config: TlsConfig,
    protocol: &'static [u8],
    current: ArcSwap<ServerConfig>,
}

/// Who a client is, as far as its certificate says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) username: Option<Text>,
    pub(crate) client_id: Option<Text>,
}

/// Certificates, of which the first is for clients whose name no other has.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl Tls {
    /// `protocol` is what clients may name in ALPN.
    pub(crate) fn load(config: TlsConfig, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(load(&config, protocol)?);
        Ok(Self { config, protocol, current })
    }

    /// Reads the files again. Connections that are open go on; new ones find the new files, and no session of the
    /// old ones is resumed. On error the old files stay in force.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(load(&self.config, self.protocol)?));
        Ok(())
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let pairs = std::iter::once(&self.config.certificate).chain(&self.config.more_certificates);
        pairs
            .flat_map(|pair| [pair.certificate.clone(), pair.key.clone()])
            .chain(self.config.client_ca.clone())
            .chain(self.config.crl.clone())
            .collect()
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Who the client of a connection is. Its certificate has been verified.
    pub(crate) fn names(&self, connection: &ServerConnection) -> Result<Names, TlsError> {
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let name = |field: Option<CertificateField>| match (field, certificate) {
            (Some(field), Some(certificate)) => read_name(field, certificate).map(Some),
            _ => Ok(None),
        };
        Ok(Names { username: name(self.config.username_from)?, client_id: name(self.config.client_id_from)? })
    }
}

fn load(config: &TlsConfig, protocol: &[u8]) -> Result<ServerConfig, TlsError> {
    let provider = tls::provider();
    let pairs = std::iter::once(&config.certificate).chain(&config.more_certificates);
    let certificates = pairs.map(|pair| load_pair(pair, &provider)).collect::<Result<_, _>>()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(tls::versions(&config.min_version)?)
        .map_err(|error| TlsError::Setting(error.to_string()))?;
    let builder = match client_verifier(config, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
    server.alpn_protocols = vec![protocol.to_vec()];
    Ok(server)
}

fn load_pair(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = tls::certificates(&files.certificate)?;
    let key = tls::private_key(&files.key)?;
    let unfit = |source: rustls::Error| TlsError::Unfit { path: files.key.clone(), source: source.into() };
    CertifiedKey::from_der(chain, key, provider).map(Arc::new).map_err(unfit)
}

fn client_verifier(
    config: &TlsConfig,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let setting = |text: &str| Err(TlsError::Setting(text.to_owned()));
    let Some(ca) = &config.client_ca else {
        if config.verify_client == Some(true) || config.crl.is_some() {
            return setting("verify_client and crl need client_ca, the authorities to verify against");
        }
        if config.username_from.is_some() || config.client_id_from.is_some() {
            return setting("names of clients can be taken from their certificates only with client_ca");
        }
        return Ok(None);
    };
    let roots = Arc::new(tls::roots(ca)?);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
    if let Some(crl) = &config.crl {
        verifier = verifier.with_crls(tls::revocation_lists(crl)?).enforce_revocation_expiration();
    }
    if config.verify_client == Some(false) {
        verifier = verifier.allow_unauthenticated();
    }
    let path = config.crl.as_ref().unwrap_or(ca).clone();
    verifier.build().map(Some).map_err(|source| TlsError::Unfit { path, source: source.into() })
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |certified: &&Arc<CertifiedKey>| {
            let parsed = certified.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            match (&parsed, &wanted) {
                (Some(parsed), Some(wanted)) => verify_server_name(parsed, wanted).is_ok(),
                _ => false,
            }
        };
        self.0.iter().find(is_for).or(self.0.first()).cloned()
    }
}

fn read_name(field: CertificateField, certificate: &CertificateDer<'_>) -> Result<Text, TlsError> {
    let missing =
        || TlsError::Setting(format!("the client's certificate has no {field:?} that could be a name"));
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| missing())?;
    let subject = parsed.subject();
    let name = match field {
        CertificateField::CommonName => {
            subject.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
        }
        CertificateField::DistinguishedName => Some(subject.to_string()),
    };
    name.filter(|name| !name.is_empty()).and_then(|name| Text::new(&name).ok()).ok_or_else(missing)
}
