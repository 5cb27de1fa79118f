//! Users and permissions: which files ours names, and which have to be made.
//!
//! In: the files that the directives name, and whether something else decided there. Out: `[auth]` and the files beside the
//! configuration. Must never: leave a door open that a plugin kept shut, so an empty file, which lets nobody do anything,
//! stands for what can't be taken over.

use crate::SideFile;
use crate::acl::{self, Dialect};
use crate::desk::Desk;
use crate::directive::Directive;
use crate::output::quoted;
use crate::report::Report;
use crate::users::Users;
use crate::value::text;

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
pub(crate) fn finish(auth: &Auth, dialect: Dialect<'_>, desk: &mut Desk<'_>) {
    for directive in auth.password_files.iter().chain(&auth.acl_files) {
        // A file without a name is refused there too.
        let _ = text(directive, &mut desk.report);
    }
    let users = users(auth, desk);
    let permissions = permissions(auth, dialect, desk);
    desk.files.extend(users.into_iter().chain(permissions));
}

fn users(auth: &Auth, desk: &mut Desk<'_>) -> Option<SideFile> {
    let named = once(&auth.password_files);
    let mut users = Users::default();
    let mut read = Vec::new();
    for directive in &named {
        let path = desk.reader.resolve(&directive.value);
        match desk.reader.read(&path) {
            Ok(text) => users.add(directive, &path, &text, &mut desk.report),
            Err(why) => {
                unreadable(directive, &path, &why, &mut desk.report);
                if is_implied(directive) {
                    continue;
                }
            }
        }
        read.push((*directive, path));
    }
    let side = format!("{}.passwd", desk.request.beside);
    match read.as_slice() {
        [] => {}
        [(only, path)] if !users.changed => {
            desk.output.auth.set("password_file", quoted(path), only);
            return None;
        }
        [(first, _), others @ ..] => {
            for (other, _) in others {
                let advice = "remove the users that a listener was to keep out, or run a broker for each";
                desk.report.act(
                    other,
                    "listeners have different users, who may all log in on every listener here",
                    advice,
                );
            }
            desk.output.auth.set("password_file", quoted(&side), first);
            return Some(SideFile { path: side, text: users.text, what: "users" });
        }
    }
    let shut = desk.output.listeners.iter().find(|listener| !listener.anonymous && !listener.by_certificate)?;
    let advice = format!("give each user a password: viaduct passwd {side} USER");
    let why = "nobody can log in without a password file; one without users is set";
    desk.report.act(&shut.origin, why, advice);
    desk.output.auth.because(
        "password_file",
        quoted(&side),
        "anonymous clients are refused, so there have to be users",
    );
    let text = "# Nobody yet: viaduct passwd FILE USER\n".to_owned();
    Some(SideFile { path: side, text, what: "an empty list of users" })
}

fn permissions(auth: &Auth, dialect: Dialect<'_>, desk: &mut Desk<'_>) -> Option<SideFile> {
    let named = once(&auth.acl_files);
    let side = format!("{}.acl", desk.request.beside);
    let Some((first, others)) = named.split_first() else {
        let plugin = auth.plugin.as_ref()?;
        return Some(deny_all(plugin, "it may have decided who may publish and subscribe", side, desk));
    };
    for other in others {
        let why = format!("permissions hold on every listener here, and those of {} are taken", first.value);
        desk.report.act(other, why, "put what it allows into that file, or run a broker for each listener");
    }
    let path = desk.reader.resolve(&first.value);
    let converted = match desk.reader.read(&path) {
        Ok(text) => acl::convert(first, &path, &text, dialect, &mut desk.report),
        Err(why) if is_implied(first) => {
            let why = format!("{path}, where permissions are without another word, can't be read here: {why}");
            return Some(deny_all(first, &why, side, desk));
        }
        Err(why) => {
            unreadable(first, &path, &why, &mut desk.report);
            acl::Converted::default()
        }
    };
    if !converted.changed {
        desk.output.auth.set("acl_file", quoted(&path), first);
        return None;
    }
    desk.output.auth.set("acl_file", quoted(&side), first);
    Some(SideFile { path: side, text: converted.text, what: "permissions" })
}

/// A file that allows nothing, for permissions that are not known.
fn deny_all(directive: &Directive, why: &str, side: String, desk: &mut Desk<'_>) -> SideFile {
    let why = format!("{why}; a file of permissions without a line is set, which denies all");
    let advice = format!("write the rules into {side}, or remove auth.acl_file if everybody may do everything");
    desk.report.act(directive, why, advice);
    desk.output.auth.because("acl_file", quoted(&side), "permissions that are not known");
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
