//! Why a TLS handshake with a bridge's remote failed, as the bridge and its operator understand it.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use rustls_pki_types::{ServerName, UnixTime};
use viaduct_bridge::TlsFailure;

/// The failure in the bridge's words: which check, and whose name or date.
pub(crate) fn failure(error: &Error) -> TlsFailure {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            TlsFailure::NotTls
        }
        Error::InvalidCertificate(error) => certificate(error),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::Tls12NotOffered,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsFailure::VersionMismatch,
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => TlsFailure::VersionMismatch,
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => TlsFailure::ClientCertificateRequired,
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            TlsFailure::NoApplicationProtocol
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => TlsFailure::UnknownName,
        // What TLS 1.2 says for both: there is no telling which.
        Error::AlertReceived(AlertDescription::HandshakeFailure) => TlsFailure::Other(
            "the remote ends the handshake: it wants a client certificate (`tls.cert_file` and `tls.key_file`), or has no cipher \
             in common with us"
                .to_owned(),
        ),
        error => TlsFailure::Other(error.to_string()),
    }
}

fn certificate(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::NotValidForName => TlsFailure::WrongName { expected: "the host".into(), presented: Vec::new() },
        CertificateError::NotValidForNameContext { expected, presented } => TlsFailure::WrongName {
            expected: match expected {
                ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
                name => name.to_str().into_owned(),
            },
            presented: presented.iter().map(|name| plain_name(name)).collect(),
        },
        CertificateError::Expired => TlsFailure::Expired { when: None },
        CertificateError::ExpiredContext { not_after, .. } => TlsFailure::Expired { when: Some(date(*not_after)) },
        CertificateError::NotValidYet => TlsFailure::NotYetValid { when: None },
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsFailure::NotYetValid { when: Some(date(*not_before)) }
        }
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::BadSignature => TlsFailure::OtherAuthority,
        CertificateError::Other(other) if other.to_string().contains("UnsupportedCertVersion") => TlsFailure::Other(
            "the remote's certificate is of X.509 version 1, which does not say what it is for; it has to be made anew as \
             version 3"
                .to_owned(),
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => TlsFailure::Other(
            "the remote's certificate is that of an authority and not in `tls.ca_file`; put it there to trust it as it is"
                .to_owned(),
        ),
        error => TlsFailure::Other(format!("the remote's certificate: {error}")),
    }
}

/// `DnsName("a.b")` and `IpAddress(..)`, as rustls prints names, without the wrapping.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| x509_parser::time::ASN1Time::from_timestamp(seconds).ok())
        .map_or_else(|| format!("{} s after 1970", time.as_secs()), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_check_that_fails_says_whose_name_or_date() {
        let time = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let wrong_name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("hub.test").unwrap(),
            presented: vec!["DnsName(\"edge.test\")".to_owned()],
        };
        assert_eq!(
            failure(&Error::InvalidCertificate(wrong_name)),
            TlsFailure::WrongName { expected: "hub.test".into(), presented: vec!["edge.test".into()] }
        );
        let expired = CertificateError::ExpiredContext { time: time(1_600_000_001), not_after: time(1_600_000_000) };
        let TlsFailure::Expired { when: Some(when) } = failure(&Error::InvalidCertificate(expired)) else {
            unreachable!("an expired certificate is called that")
        };
        assert!(when.contains("2020"), "{when}");
        assert_eq!(failure(&Error::InvalidMessage(InvalidMessage::InvalidContentType)), TlsFailure::NotTls);
        assert_eq!(failure(&Error::AlertReceived(AlertDescription::ProtocolVersion)), TlsFailure::VersionMismatch);
        assert_eq!(
            failure(&Error::AlertReceived(AlertDescription::CertificateRequired)),
            TlsFailure::ClientCertificateRequired
        );
        assert_eq!(failure(&Error::InvalidCertificate(CertificateError::UnknownIssuer)), TlsFailure::UnknownIssuer);
    }
}
