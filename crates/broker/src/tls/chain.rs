//! Certificates in words and dates.
//!
//! In: certificates as they were shown or read. Out: a line about each, and when the first of a chain ends. Must never: trust what
//! it reads; that is the verifiers' matter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::time::ASN1Time;

/// Seconds.
pub(super) const DAY: i64 = 24 * 60 * 60;
/// How long before its end a certificate is spoken of: time for those who have to ask others for a new one.
pub(super) const AHEAD: i64 = 14 * DAY;
/// Names that a line has at most; some certificates are for hundreds.
const NAMES: usize = 8;
/// Characters of a peer's text that a line has at most.
const QUOTED: usize = 200;

/// When the first certificate of `chain` ends, seconds since 1970; `None` without one that can be read. Authorities at its end that
/// signed themselves do not count: nobody looks at their dates.
pub(crate) fn expires(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let dates = chain.iter().enumerate().filter_map(|(place, certificate)| {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let is_root = place > 0 && certificate.subject() == certificate.issuer();
        (!is_root).then(|| certificate.validity().not_after.timestamp())
    });
    dates.min()
}

/// How soon a certificate ends, in words; `None` while nobody has to do anything about it. `now` and `expires` are seconds since 1970.
pub(crate) fn ends_soon(expires: i64, now: i64) -> Option<String> {
    let left = expires.saturating_sub(now);
    let date = ASN1Time::from_timestamp(expires).map_or_else(|_| expires.to_string(), |at| at.to_string());
    match left {
        ..=0 => Some(format!("expired on {date}")),
        1..AHEAD => Some(format!("expires on {date}, in {} days", left / DAY)),
        AHEAD.. => None,
    }
}

/// Who it is, for which names, by whom, and when.
pub(crate) fn describe(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return format!("{} bytes that are no certificate", certificate.len());
    };
    let subject = plain(&certificate.subject().to_string());
    let issuer = plain(&certificate.issuer().to_string());
    let validity = certificate.validity();
    let issuer = if subject == issuer { "itself".to_owned() } else { issuer };
    format!(
        "{subject}; for {}; issued by {issuer}; from {} to {}",
        names(&certificate),
        validity.not_before,
        validity.not_after
    )
}

fn names(certificate: &X509Certificate<'_>) -> String {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let all: Vec<String> =
        extension.map(|extension| extension.value.general_names.iter().filter_map(name).collect()).unwrap_or_default();
    let shown: Vec<&str> = all.iter().take(NAMES).map(String::as_str).collect();
    match all.len() {
        0 if certificate.is_ca() => "signing others".to_owned(),
        0 => "no name".to_owned(),
        count if count > NAMES => format!("{} and {} more", shown.join(", "), count - NAMES),
        _ => shown.join(", "),
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => {
            let ip = <[u8; 4]>::try_from(*bytes).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
            let ip = ip.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))));
            ip.ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// A peer chose this text.
fn plain(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(QUOTED).collect();
    if text.is_empty() { "nobody".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_chain_ends_with_its_first_certificate_and_roots_do_not_count() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "root");
        params.not_after = date_time_ymd(2001, 1, 1);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2033, 5, 18);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
        let chain = [leaf.der().clone(), root.der().clone()];
        assert_eq!(expires(&chain), Some(1_999_987_200));
        assert_eq!(expires(&[]), None);
        let line = describe(&chain[0]);
        assert!(line.contains("a.test, 10.0.0.1") && line.contains("issued by CN=") && line.contains("2033"), "{line}");
        assert!(describe(&chain[1]).contains("signing others; issued by itself"), "{}", describe(&chain[1]));
        assert!(describe(&CertificateDer::from(vec![1, 2, 3])).contains("3 bytes"));
    }
}
