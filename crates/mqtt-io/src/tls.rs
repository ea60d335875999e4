//! The files of TLS, and the cryptography behind it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is not the PEM file that it should be: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file is there, and what is wanted is not in it.
    #[error("{} holds no {what} in PEM form", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The pieces do not fit together.
    #[error("{}: {source}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system has no certificate authorities.
    #[error("the system's certificate authorities cannot be read: {0}")]
    SystemRoots(String),
    /// A setting that no TLS has.
    #[error("{0}")]
    Setting(String),
}

/// The cryptography: aws-lc-rs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// TLS 1.3 alone.
static TLS_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The versions of TLS from the given one up, `"1.2"` or `"1.3"`.
///
/// # Errors
/// When it is another; older ones are not secure.
pub fn versions(least: &str) -> Result<&'static [&'static SupportedProtocolVersion], TlsError> {
    match least {
        "1.2" => Ok(rustls::ALL_VERSIONS),
        "1.3" => Ok(&TLS_1_3),
        other => Err(TlsError::Setting(format!("TLS {other:?} cannot be had: say \"1.2\" or \"1.3\""))),
    }
}

/// Certificates of a PEM file, in its order: of a server or client the leaf first.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<CertificateDer<'static>> = read_all(path)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), what: "certificate" });
    }
    Ok(found)
}

/// The private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| match source {
        pem::Error::NoItemsFound => {
            TlsError::Empty { path: path.to_owned(), what: "private key that is not encrypted" }
        }
        source => TlsError::Pem { path: path.to_owned(), source },
    })
}

/// The certificate authorities of a PEM file.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Unfit { path: path.to_owned(), source: source.into() })?;
    }
    Ok(roots)
}

/// The certificate authorities that the system trusts.
///
/// # Errors
/// When there is none.
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that no library accepts.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::SystemRoots(errors.join("; ")));
    }
    Ok(roots)
}

/// The certificate revocation lists of a PEM file.
///
/// # Errors
/// When there is none, or the file cannot be read.
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let found: Vec<CertificateRevocationListDer<'static>> = read_all(path)?;
    if found.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned(), what: "certificate revocation list" });
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn read_all<T: pem::PemObject>(path: &Path) -> Result<Vec<T>, TlsError> {
    let bytes = read(path)?;
    let items = T::pem_slice_iter(&bytes).collect::<Result<Vec<T>, _>>();
    items.map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}
