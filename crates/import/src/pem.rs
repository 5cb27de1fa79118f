//! The PEM files that a configuration names: whether they can be what they are named as, and folders of them as one file.

use std::collections::BTreeSet;

use crate::desk::Desk;
use crate::directive::Directive;
use crate::request::join;

/// Where a certificate begins and ends.
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What a file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Certificates,
    Key,
    Revoked,
}

/// Says what keeps the file at `path` from being used as it is.
pub(crate) fn look(directive: &Directive, path: &str, kind: Kind, desk: &mut Desk<'_>) {
    let advice = "set the right file; `viaduct check-config` says when all is well";
    match desk.reader.read(path) {
        Err(why) => desk.report.act(directive, format!("{path} can't be read here: {why}"), advice),
        Ok(text) => {
            let (marks, what): (&[&str], _) = match kind {
                Kind::Certificates => (&[BEGIN], "certificate"),
                Kind::Key => (&["PRIVATE KEY-----"], "private key"),
                Kind::Revoked => (&["-----BEGIN X509 CRL-----"], "list of revoked certificates"),
            };
            if !marks.iter().any(|mark| text.contains(mark)) {
                desk.report.act(directive, format!("{path} holds no {what} in PEM"), advice);
            } else if kind == Kind::Key && text.contains("ENCRYPTED") {
                let advice = "take the passphrase off: openssl pkey -in FILE -out NEW";
                desk.report.act(
                    directive,
                    format!("{path} is a key with a passphrase, which nobody could type"),
                    advice,
                );
            }
        }
    }
}

/// All certificates of the files in a folder, each once.
pub(crate) fn gather(directive: &Directive, folder: &str, desk: &mut Desk<'_>) -> String {
    let advice = "put the authorities into one file and name that";
    let names = match desk.reader.list(folder) {
        Ok(names) => names,
        Err(why) => {
            desk.report.act(directive, format!("{folder} can't be read here: {why}"), advice);
            return String::new();
        }
    };
    let mut found = BTreeSet::new();
    for name in names {
        let text = desk.reader.read(&join(folder, &name)).unwrap_or_default();
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once(BEGIN) {
            let Some((body, after)) = after.split_once(END) else { break };
            found.insert(format!("{BEGIN}{}{END}\n", body.replace('\r', "")));
            rest = after;
        }
    }
    if found.is_empty() {
        let why = format!(
            "{folder} holds no certificate in PEM, so that nobody is trusted: the file that is made of it is empty"
        );
        desk.report.act(directive, why, advice);
    }
    found.into_iter().collect()
}
