//! PEM files into certificates, keys and revocation lists; every error names the file, the setting and what is wrong.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use thiserror::Error;

/// Why a TLS file can't be used.
#[derive(Debug, Error)]
#[error("{}: {problem} ({key})", path.display())]
pub struct TlsFileError {
    path: PathBuf,
    key: String,
    problem: FileProblem,
}

impl TlsFileError {
    /// The setting that names the file, such as `bridge[hub].tls.ca_file`.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

#[derive(Debug, Error)]
enum FileProblem {
    #[error("{0}")]
    Read(io::Error),
    #[error("it is not PEM: {0}")]
    NotPem(String),
    #[error("there is no {0} in it")]
    Nothing(&'static str),
    #[error("{0}")]
    Unusable(String),
}

/// A file and the setting that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) path: &'a Path,
    /// Such as `listener[tls].tls`.
    pub(super) table: &'a str,
    /// Such as `cert_file`.
    pub(super) field: &'static str,
}

impl Named<'_> {
    fn error(self, problem: FileProblem) -> TlsFileError {
        TlsFileError { path: self.path.to_owned(), key: format!("{}.{}", self.table, self.field), problem }
    }

    /// The file is there and means something, but not what is needed.
    pub(super) fn unusable(self, what: impl Into<String>) -> TlsFileError {
        self.error(FileProblem::Unusable(what.into()))
    }

    fn items<T: PemObject>(self, what: &'static str) -> Result<Vec<T>, TlsFileError> {
        let bytes = crate::files::read(self.path).map_err(|error| self.error(FileProblem::Read(error)))?;
        let items = T::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, pem::Error>>()
            .map_err(|error| self.error(FileProblem::NotPem(error.to_string())))?;
        if items.is_empty() {
            let is_pem = bytes.windows(10).any(|window| window == b"-----BEGIN");
            return Err(self.error(if is_pem {
                FileProblem::Nothing(what)
            } else {
                FileProblem::NotPem("no line in it begins with -----BEGIN".to_owned())
            }));
        }
        Ok(items)
    }

    /// A certificate chain, the leaf first; at least one.
    pub(super) fn chain(self) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
        let chain: Vec<CertificateDer<'static>> = self.items("certificate")?;
        for (index, certificate) in chain.iter().enumerate() {
            if let Err(error) = x509_parser::parse_x509_certificate(certificate) {
                return Err(self.unusable(format!("certificate {} can't be read: {error}", index + 1)));
            }
        }
        Ok(chain)
    }

    /// The first private key.
    pub(super) fn private_key(self) -> Result<PrivateKeyDer<'static>, TlsFileError> {
        let mut keys: Vec<PrivateKeyDer<'static>> = self.items("private key (an encrypted one can't be used)")?;
        Ok(keys.swap_remove(0))
    }

    /// Authorities to check others against.
    pub(super) fn roots(self) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsFileError> {
        let certificates = self.chain()?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| self.unusable(error.to_string()))?;
        }
        Ok((roots, certificates))
    }

    /// Lists of revoked certificates.
    pub(super) fn revocation_lists(self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFileError> {
        self.items("revocation list")
    }
}

/// `chain` and the key in `key_file`, which have to belong together; `cert_path` is for errors. Unlike rustls' own check this
/// reads certificates of X.509 version 1 too, which is what `openssl x509 -req` makes unless told otherwise: whether one is good
/// enough is for the peer to say.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    cert_path: &Path,
    key_file: Named<'_>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFileError> {
    let unusable = |error: rustls::Error| key_file.unusable(format!("the key can't be used: {error}"));
    let key = provider.key_provider.load_private_key(key_file.private_key()?).map_err(unusable)?;
    let of_key = key.public_key();
    let leaf = chain.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
    let belongs = match (&of_key, &leaf) {
        (Some(of_key), Some((_, leaf))) => leaf.public_key().raw == of_key.as_ref(),
        // Not to be known before a handshake.
        _ => true,
    };
    if belongs {
        return Ok(CertifiedKey::new(chain, key));
    }
    Err(key_file.unusable(format!("the key does not belong to the certificate in {}", cert_path.display())))
}

/// When `certificate` ends, if that is before now: it is used all the same, but clients that check dates will not
/// take it.
pub(super) fn expired_since(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let not_after = certificate.validity().not_after;
    (not_after < x509_parser::time::ASN1Time::now()).then(|| not_after.to_string())
}
