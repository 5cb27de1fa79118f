//! Users and permissions: which files ours names, and which have to be made.
//!
//! In: the files that the directives name, and whether something else decided there. Out: `[auth]` and the files beside the
//! configuration. Must never: leave a door open that a plugin kept shut, so an empty file, which lets nobody do anything,
//! stands for what can't be taken over.

use crate::SideFile;
use crate::acl::{self, Dialect};
use crate::directive::Directive;
use crate::output::{Output, quoted};
use crate::report::Report;
use crate::request::{Reader, Request};
use crate::users::Users;

/// What the directives say about it.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    /// Each with the directive that names it; the paths are its values.
    pub(crate) password_files: Vec<Directive>,
    pub(crate) acl_files: Vec<Directive>,
    /// A plugin that may have decided who may do what.
    pub(crate) plugin: Option<Directive>,
}

/// Sets `[auth]`; the listeners are there already.
pub(crate) fn finish(
    auth: &Auth,
    dialect: Dialect<'_>,
    request: &Request<'_>,
    reader: &mut Reader<'_>,
    report: &mut Report,
    output: &mut Output,
) -> Vec<SideFile> {
    let mut files = Vec::new();
    files.extend(users(auth, request, reader, report, output));
    files.extend(permissions(auth, dialect, request, reader, report, output));
    files
}

fn users(
    auth: &Auth,
    request: &Request<'_>,
    reader: &mut Reader<'_>,
    report: &mut Report,
    output: &mut Output,
) -> Option<SideFile> {
    let named = once(&auth.password_files);
    let mut users = Users::default();
    let mut read = Vec::new();
    for directive in &named {
        let path = reader.resolve(&directive.value);
        match reader.read(&path) {
            Ok(text) => users.add(directive, &path, &text, report),
            Err(why) => {
                unreadable(directive, &path, &why, report);
                if is_implied(directive) {
                    continue;
                }
            }
        }
        read.push((*directive, path));
    }
    let side = format!("{}.passwd", request.beside);
    match read.as_slice() {
        [] => {}
        [(only, path)] if !users.changed => {
            output.auth.set("password_file", quoted(path), only);
            return None;
        }
        [(first, _), others @ ..] => {
            for (other, _) in others {
                let advice = "remove the users that a listener was to keep out, or run a broker for each";
                report.act(other, "listeners have different users, who may all log in on every listener here", advice);
            }
            output.auth.set("password_file", quoted(&side), first);
            return Some(SideFile { path: side, text: users.text, what: "users" });
        }
    }
    let shut = output.listeners.iter().find(|listener| !listener.anonymous && !listener.by_certificate)?;
    let advice = format!("give each user a password: viaduct passwd {side} USER");
    let why = "nobody can log in without a password file; one without users is set";
    report.act(&shut.origin, why, advice);
    output.auth.because("password_file", quoted(&side), "anonymous clients are refused, so there have to be users");
    let text = "# Nobody yet: viaduct passwd FILE USER\n".to_owned();
    Some(SideFile { path: side, text, what: "an empty list of users" })
}

fn permissions(
    auth: &Auth,
    dialect: Dialect<'_>,
    request: &Request<'_>,
    reader: &mut Reader<'_>,
    report: &mut Report,
    output: &mut Output,
) -> Option<SideFile> {
    let named = once(&auth.acl_files);
    let side = format!("{}.acl", request.beside);
    let Some((first, others)) = named.split_first() else {
        let plugin = auth.plugin.as_ref()?;
        return Some(deny_all(plugin, "it may have decided who may publish and subscribe", side, report, output));
    };
    for other in others {
        let why = format!("permissions hold on every listener here, and those of {} are taken", first.value);
        report.act(other, why, "put what it allows into that file, or run a broker for each listener");
    }
    let path = reader.resolve(&first.value);
    let converted = match reader.read(&path) {
        Ok(text) => acl::convert(first, &path, &text, dialect, report),
        Err(why) if is_implied(first) => {
            let why = format!("{path}, where permissions are without another word, can't be read here: {why}");
            return Some(deny_all(first, &why, side, report, output));
        }
        Err(why) => {
            unreadable(first, &path, &why, report);
            acl::Converted::default()
        }
    };
    if !converted.changed {
        output.auth.set("acl_file", quoted(&path), first);
        return None;
    }
    output.auth.set("acl_file", quoted(&side), first);
    Some(SideFile { path: side, text: converted.text, what: "permissions" })
}

/// A file that allows nothing, for permissions that are not known.
fn deny_all(directive: &Directive, why: &str, side: String, report: &mut Report, output: &mut Output) -> SideFile {
    let why = format!("{why}; a file of permissions without a line is set, which denies all");
    let advice = format!("write the rules into {side}, or remove auth.acl_file if everybody may do everything");
    report.act(directive, why, advice);
    output.auth.because("acl_file", quoted(&side), "permissions that are not known");
    let text = "# Nothing is allowed yet. `pattern readwrite #` allows everybody everything.\n".to_owned();
    SideFile { path: side, text, what: "permissions that deny all" }
}

/// Whether no line says it.
fn is_implied(directive: &Directive) -> bool {
    directive.place.line == 0
}

/// Those that name different files.
fn once(directives: &[Directive]) -> Vec<&Directive> {
    let mut different: Vec<&Directive> = Vec::new();
    for directive in directives {
        if !different.iter().any(|other| other.value == directive.value) {
            different.push(directive);
        }
    }
    different
}

fn unreadable(directive: &Directive, path: &str, why: &str, report: &mut Report) {
    let advice = "import again where it can be read (--base says what relative paths are relative to)";
    report.act(directive, format!("{path} can't be read here, so it is not looked at: {why}"), advice);
}
