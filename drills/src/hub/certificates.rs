//! Certificates: an authority that the hub trusts, a stranger that it does not, and what they sign.
//!
//! In: a folder. Out: PEM files. Must never: sign two that are the same.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    Trusted,
    Stranger,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Both authorities.
pub(crate) struct Certificates {
    trusted: CertifiedIssuer<'static, KeyPair>,
    stranger: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    /// The file that the hub trusts.
    pub(crate) ca: PathBuf,
    issued: u64,
}

impl Certificates {
    /// # Errors
    /// They can't be made or written.
    pub(crate) fn new(folder: &Path) -> Result<Self, String> {
        let (trusted, stranger) = (authority("trusted")?, authority("stranger")?);
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, trusted.pem()).map_err(|error| error.to_string())?;
        Ok(Self { trusted, stranger, folder: folder.to_owned(), ca, issued: 0 })
    }

    /// One more for 127.0.0.1, with a key of its own.
    ///
    /// # Errors
    /// It can't be made or written.
    pub(crate) fn issue(&mut self, signer: Signer) -> Result<Identity, String> {
        self.issued += 1;
        let issuer = if signer == Signer::Trusted { &self.trusted } else { &self.stranger };
        let said = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(said)?;
        params.distinguished_name = name(&format!("edge, certificate {}", self.issued));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(said)?;
        let cert = params.signed_by(&key, issuer).map_err(said)?;
        let at = |end: &str| self.folder.join(format!("certificate-{}.{end}", self.issued));
        let identity = Identity { cert: at("pem"), key: at("key") };
        std::fs::write(&identity.cert, cert.pem()).map_err(|error| error.to_string())?;
        std::fs::write(&identity.key, key.serialize_pem()).map_err(|error| error.to_string())?;
        Ok(identity)
    }
}

fn authority(who: &str) -> Result<CertifiedIssuer<'static, KeyPair>, String> {
    let said = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(Vec::new()).map_err(said)?;
    params.distinguished_name = name(&format!("authority of the drill, {who}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(said)?).map_err(said)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
