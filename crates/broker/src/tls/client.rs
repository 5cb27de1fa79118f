//! TLS of a bridge towards its remote: its configuration and how far the remote is checked.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use viaduct_config::{BridgeTls, Verify};

use super::load::{Named, TlsFileError, certified};

/// Where systems keep the authorities that the machine trusts: Debian, Red Hat, SUSE, Alpine and their kin.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The variable by which most programs are told of another file.
const ROOTS_VARIABLE: &str = "SSL_CERT_FILE";

/// TLS of a bridge, ready to be spoken.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    /// When our own certificate ends, seconds since 1970.
    pub(crate) expires: Option<i64>,
    /// Our own certificate.
    pub(crate) own: Option<CertificateDer<'static>>,
}

/// What remotes showed, the last one's chain: also when a check failed and nobody else knows it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl Offered {
    /// The chain, the remote's own certificate first.
    pub(crate) fn take(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Reads the files of a bridge's `tls`; `bridge` is its name, for errors.
///
/// # Errors
/// A file is missing or can't be used, or certificate and key don't belong together.
pub(crate) fn client_config(bridge: &str, tls: &BridgeTls) -> Result<ClientTls, TlsFileError> {
    make(bridge, tls, Offered::default())
}

/// As [`client_config`], and what remotes show is put into `offered`.
///
/// # Errors
/// As [`client_config`].
pub(crate) fn client_config_watched(
    bridge: &str,
    tls: &BridgeTls,
    offered: &Offered,
) -> Result<ClientTls, TlsFileError> {
    make(bridge, tls, offered.clone())
}

fn make(bridge: &str, tls: &BridgeTls, offered: Offered) -> Result<ClientTls, TlsFileError> {
    let table = format!("bridge[{bridge}].tls");
    let named = |path, field| Named { path, table: &table, field };
    let provider = super::provider();
    let trust = trust(&table, tls, &provider)?;
    let verifier = Arc::new(Verifier { trust, provider: Arc::clone(&provider), offered });
    let mut own = Vec::new();
    let first = named(tls.ca_file.as_deref().unwrap_or(Path::new("")), "ca_file");
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(super::versions(tls.min_version, tls.max_version))
        .map_err(|error| first.unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert_path), Some(key_path)) => {
            let key_file = named(key_path, "key_file");
            own = named(cert_path, "cert_file").chain()?;
            let certified = certified(own.clone(), cert_path, key_file, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let expires = super::expires(&own);
    Ok(ClientTls { config: Arc::new(config), expires, own: own.into_iter().next() })
}

/// The name that is asked for and checked.
///
/// # Errors
/// It is neither a DNS name nor an IP address.
pub(crate) fn server_name(tls: &BridgeTls, host: &str) -> Result<ServerName<'static>, String> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is neither a DNS name nor an IP address"))
}

fn trust(table: &str, tls: &BridgeTls, provider: &Arc<CryptoProvider>) -> Result<Trust, TlsFileError> {
    if tls.verify == Verify::None {
        return Ok(Trust::Anybody);
    }
    let path = tls.ca_file.as_deref().unwrap_or(Path::new("the public authorities"));
    let ca_file = Named { path, table, field: "ca_file" };
    let (roots, pinned) = match &tls.ca_file {
        Some(_) => ca_file.roots()?,
        None => (public_roots(table)?, Vec::new()),
    };
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| ca_file.unusable(error.to_string()))?;
    Ok(Trust::Signed(Signed { chain, pinned, check_name: tls.verify == Verify::Full }))
}

/// What this machine trusts, or what browsers trust when it says nothing. A file that the environment names has to be good.
fn public_roots(table: &str) -> Result<RootCertStore, TlsFileError> {
    if let Some(path) = std::env::var_os(ROOTS_VARIABLE).filter(|path| !path.is_empty()) {
        let named = Named { path: Path::new(&path), table, field: ROOTS_VARIABLE };
        return named.roots().map(|(roots, _)| roots);
    }
    let mut roots = RootCertStore::empty();
    for path in SYSTEM_ROOTS {
        let Ok(bytes) = crate::files::read(Path::new(path)) else { continue };
        let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).flatten());
        if added > 0 {
            return Ok(roots);
        }
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok(roots)
}

/// Checks a remote as far as the operator wants, and notes what it showed. Signatures are always checked, so that who answers at
/// least holds the key of the certificate that it shows.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    offered: Offered,
}

/// Whom it takes.
#[derive(Debug)]
enum Trust {
    /// `verify = "none"`.
    Anybody,
    Signed(Signed),
}

/// Who has a good chain, whose time it is and, if that is asked for, whose name is right.
#[derive(Debug)]
struct Signed {
    chain: Arc<WebPkiServerVerifier>,
    /// The certificates of `ca_file`. A remote may show one of them as its own: many small brokers have one self-signed
    /// certificate, and that file is how their clients trust it.
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.offered.0.lock() = chain.map(|certificate| certificate.clone().into_owned()).collect();
        let Trust::Signed(signed) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        if signed.pinned.iter().any(|pinned| pinned == end_entity) {
            return signed.verify_pinned(end_entity, server_name, now);
        }
        match signed.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last, so everything else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !signed.check_name => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Signed {
    fn verify_pinned(
        &self,
        certificate: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let not_before = seconds(parsed.validity().not_before.timestamp());
        let not_after = seconds(parsed.validity().not_after.timestamp());
        let at = |secs| UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        if now.as_secs() < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before: at(not_before) }.into());
        }
        if now.as_secs() > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after: at(not_after) }.into());
        }
        if self.check_name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}
