//! Certificates for one test: an authority, and what it signed, good and bad.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An authority of this test and what it signed. The files are in the folder that was named.
#[derive(Debug)]
pub struct Certs {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    /// The authority's certificate.
    pub ca: PathBuf,
    /// For `localhost` and 127.0.0.1.
    pub server: Identity,
    /// For another host, `other.example.com`.
    pub other_name: Identity,
    /// For `localhost`, over since 2001.
    pub expired: Identity,
    /// A client whose common name is `gate-7`.
    pub client: Identity,
}

impl Certs {
    /// Makes them all in `folder`.
    ///
    /// # Panics
    /// When they can't be made or written.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name("Viaduct test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, issuer.pem()).unwrap();

        let here = &["localhost", "127.0.0.1"];
        let server = issue(&issuer, folder, "server", |params| host(params, here));
        let other_name = issue(&issuer, folder, "other", |params| host(params, &["other.example.com"]));
        let expired = issue(&issuer, folder, "expired", |params| {
            host(params, here);
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        });
        let client = issue(&issuer, folder, "gate-7", |_| {});
        Self { issuer, folder: folder.to_owned(), ca, server, other_name, expired, client }
    }

    /// One more client certificate, with `common_name`.
    ///
    /// # Panics
    /// When it can't be made or written.
    #[must_use]
    pub fn client_named(&self, common_name: &str) -> Identity {
        issue(&self.issuer, &self.folder, common_name, |_| {})
    }

    /// A list of what this authority revoked: nothing.
    ///
    /// # Panics
    /// When it can't be made or written.
    #[must_use]
    pub fn revocations(&self) -> PathBuf {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2120, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join("revoked.pem");
        std::fs::write(&path, list.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }

    /// One more certificate for `localhost` and 127.0.0.1, in files called `file`, that ends `days` and an hour from now.
    ///
    /// # Panics
    /// When it can't be made or written.
    #[must_use]
    pub fn server_for_days(&self, file: &str, days: u64) -> Identity {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        issue(&self.issuer, &self.folder, file, |params| {
            host(params, &["localhost", "127.0.0.1"]);
            params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs((days * 24 + 1) * 60 * 60);
        })
    }

    /// What a client of the test needs to trust this authority, and to show `identity`.
    ///
    /// # Panics
    /// When the files are no certificates.
    #[must_use]
    pub fn client_config(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.client_config_with(identity, rustls::DEFAULT_VERSIONS)
    }

    /// As [`Certs::client_config`] without a certificate, and speaking nothing newer than TLS 1.2.
    #[must_use]
    pub fn client_config_1_2(&self) -> Arc<ClientConfig> {
        self.client_config_with(None, &[&rustls::version::TLS12])
    }

    fn client_config_with(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_file_iter(&identity.cert).unwrap().collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn host(params: &mut CertificateParams, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

fn issue(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    folder: &Path,
    common_name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = name(common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    let identity =
        Identity { cert: folder.join(format!("{common_name}.pem")), key: folder.join(format!("{common_name}.key")) };
    std::fs::write(&identity.cert, cert.pem()).unwrap();
    std::fs::write(&identity.key, key.serialize_pem()).unwrap();
    identity
}
