//! TLS of a listener: its configuration, and the user name that a client certificate stands for.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::CertificateDer;
use viaduct_config::{TlsServer, TlsVersion, UsernameFrom};

use super::load::{Named, TlsFileError, certified, expired_since};

/// TLS of a listener, ready to be spoken.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// When the certificate ends, seconds since 1970.
    pub(crate) expires: Option<i64>,
}

/// Reads the files of a listener's `tls`; `listener` is its name, for errors.
///
/// # Errors
/// A file is missing or can't be used, or certificate and key don't belong together.
pub(crate) fn server_config(listener: &str, tls: &TlsServer) -> Result<ServerTls, TlsFileError> {
    let table = format!("listener[{listener}].tls");
    let named = |path, field| Named { path, table: &table, field };
    let cert_file = named(&tls.cert_file, "cert_file");
    let key_file = named(&tls.key_file, "key_file");
    let chain = cert_file.chain()?;
    if let Some(when) = chain.first().and_then(expired_since) {
        tracing::warn!(
            listener, file = %tls.cert_file.display(),
            "the certificate expired on {when}; clients that check dates will not connect"
        );
    }
    let expires = super::expires(&chain);
    let provider = super::provider();
    let certified = certified(chain, &tls.cert_file, key_file, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(super::versions(tls.min_version, TlsVersion::V13))
        .map_err(|error| cert_file.unusable(error.to_string()))?;
    let builder = match &tls.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let ca_file = named(path, "client_ca_file");
            let (roots, _) = ca_file.roots()?;
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(path) = &tls.crl_file {
                // Only the client's own certificate is looked up: the lists of its authorities are seldom at hand.
                verifier = verifier
                    .with_crls(named(path, "crl_file").revocation_lists()?)
                    .only_check_end_entity_revocation()
                    .allow_unknown_revocation_status();
            }
            if !tls.require_client_certificate {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|error| {
                let blamed = tls.crl_file.as_deref().map_or(ca_file, |path| named(path, "crl_file"));
                blamed.unusable(error.to_string())
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(ServerTls { config: Arc::new(config), expires })
}

/// The user name that the leaf of `chain` stands for; `Ok(None)` when certificates don't name users here or the client
/// showed none.
///
/// # Errors
/// It should name one and does not.
pub(crate) fn certificate_name(
    chain: Option<&[CertificateDer<'_>]>,
    from: UsernameFrom,
) -> Result<Option<String>, &'static str> {
    let Some(leaf) = chain.and_then(<[_]>::first) else { return Ok(None) };
    if from == UsernameFrom::None {
        return Ok(None);
    }
    let (_, certificate) =
        x509_parser::parse_x509_certificate(leaf).map_err(|_| "its client certificate can't be read")?;
    let subject = certificate.subject();
    let name = if from == UsernameFrom::Subject {
        subject.to_string()
    } else {
        let mut names = subject.iter_common_name();
        let name = names.next().ok_or("its client certificate has no common name")?;
        // With two there is no telling which one the authority vouched for.
        if names.next().is_some() {
            return Err("its client certificate has more than one common name");
        }
        name.as_str().map_err(|_| "the common name of its client certificate is not text")?.to_owned()
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("the name in its client certificate is empty or has control characters in it");
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn tls(folder: &Path) -> TlsServer {
        TlsServer {
            cert_file: folder.join("cert.pem"),
            key_file: folder.join("key.pem"),
            client_ca_file: None,
            crl_file: None,
            require_client_certificate: false,
            username_from: UsernameFrom::None,
            min_version: TlsVersion::V12,
        }
    }

    fn write_pair(folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["broker.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_good_pair_makes_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path());
        server_config("tls", &tls(folder.path())).unwrap();
    }

    #[test]
    fn each_bad_file_is_named_with_its_setting_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(folder.path());
        let expect = |file: &str, field: &str, why: &str| {
            let error = server_config("tls", &tls).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(&format!("(listener[tls].tls.{field})")), "{error}");
            assert!(error.contains(why), "{error}");
        };
        expect("cert.pem", "cert_file", "No such file");
        write_pair(folder.path());
        let cert = std::fs::read(&tls.cert_file).unwrap();
        std::fs::write(&tls.cert_file, "hello").unwrap();
        expect("cert.pem", "cert_file", "not PEM");
        std::fs::write(&tls.cert_file, std::fs::read(&tls.key_file).unwrap()).unwrap();
        expect("cert.pem", "cert_file", "no certificate in it");
        std::fs::write(&tls.cert_file, &cert).unwrap();
        std::fs::remove_file(&tls.key_file).unwrap();
        expect("key.pem", "key_file", "No such file");
        std::fs::write(&tls.key_file, &cert).unwrap();
        expect("key.pem", "key_file", "no private key");
        std::fs::write(&tls.key_file, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        expect("key.pem", "key_file", "does not belong to the certificate");
    }

    #[test]
    fn a_client_certificate_names_its_user() {
        let certificate = |names: &[&str]| {
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for name in names {
                params.distinguished_name.push(DnType::CommonName, *name);
            }
            params.distinguished_name.push(DnType::OrganizationName, "Works");
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        let name = |certificate, from| certificate_name(Some(&[certificate]), from);
        assert_eq!(name(certificate(&["dev-1"]), UsernameFrom::CommonName), Ok(Some("dev-1".to_owned())));
        assert_eq!(name(certificate(&["dev-1"]), UsernameFrom::None), Ok(None));
        assert!(name(certificate(&["dev-1"]), UsernameFrom::Subject).unwrap().unwrap().contains("O=Works"));
        assert!(name(certificate(&[]), UsernameFrom::CommonName).is_err());
        assert!(name(certificate(&["a\nb"]), UsernameFrom::CommonName).is_err());
        assert_eq!(certificate_name(None, UsernameFrom::CommonName), Ok(None));
    }
}
