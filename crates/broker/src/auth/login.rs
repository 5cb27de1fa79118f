//! One login: what CONNECT and the certificate say against the users that there are.
//!
//! In: a user name, a password, a name from a client certificate, and whether the listener takes anonymous clients.
//! Out: an identity or why not. Must never: check a hash on a worker's thread, or answer an unknown user faster than a
//! known one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;

use super::PasswordFile;
use crate::limits::PASSWORD_CHECKS;

/// Who may log in, shared by all workers; replaced whole on reload.
#[derive(Debug)]
pub(crate) struct Users {
    file: ArcSwapOption<PasswordFile>,
    /// Hashes that are computed at a time.
    checks: Semaphore,
}

/// What a client says about itself.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// The user name of CONNECT. Absent and empty are different.
    pub(crate) username: Option<String>,
    /// The password of CONNECT.
    pub(crate) password: Option<Vec<u8>>,
    /// The user name that the listener takes from client certificates, when the client showed one.
    pub(crate) certificate_name: Option<String>,
}

/// How a login ended; the name is the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum LoginResult {
    /// The password fits.
    Password,
    /// The client certificate names the user.
    Certificate,
    /// Nobody in particular, and the listener takes that.
    Anonymous,
    /// No such user, or not its password.
    BadPassword,
    /// Nobody in particular, and the listener does not take that.
    AnonymousRefused,
}

/// A login that succeeded or not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    /// How it ended.
    pub(crate) result: LoginResult,
    /// Who it is; `None` for an anonymous client and for a failure.
    pub(crate) username: Option<Arc<str>>,
}

impl LoginResult {
    pub(crate) const ALL: [Self; 5] =
        [Self::Password, Self::Certificate, Self::Anonymous, Self::BadPassword, Self::AnonymousRefused];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Anonymous => "anonymous",
            Self::BadPassword => "bad_password",
            Self::AnonymousRefused => "anonymous_refused",
        }
    }

    pub(crate) const fn is_success(self) -> bool {
        matches!(self, Self::Password | Self::Certificate | Self::Anonymous)
    }
}

impl Login {
    fn is(result: LoginResult, username: Option<&str>) -> Self {
        Self { result, username: username.map(Arc::from) }
    }
}

impl Users {
    pub(crate) fn new(file: Option<PasswordFile>) -> Self {
        Self { file: ArcSwapOption::new(file.map(Arc::new)), checks: Semaphore::new(PASSWORD_CHECKS) }
    }

    /// A mark of what `username` logs in with now: it changes with the password and goes with the user.
    pub(crate) fn credential(&self, username: &str) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let file = self.file.load();
        let (hash, known) = file.as_ref()?.find(username);
        let mut hasher = DefaultHasher::new();
        hash.filter(|_| known)?.hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Replaces the users. Whoever logged in with what no longer holds is closed by each worker.
    pub(crate) fn set(&self, file: Option<PasswordFile>) {
        self.file.store(file.map(Arc::new));
    }

    /// Decides about one client. Without a password file a user name is taken as it comes when anonymous clients are
    /// taken, as in mosquitto, since there is nothing to check it against.
    pub(crate) async fn login(&self, credentials: Credentials, allow_anonymous: bool) -> Login {
        let Credentials { username, password, certificate_name } = credentials;
        if let Some(name) = certificate_name {
            return Login::is(LoginResult::Certificate, Some(&name));
        }
        let file = self.file.load_full();
        match (username, file) {
            (None, _) if allow_anonymous => Login::is(LoginResult::Anonymous, None),
            (None, _) => Login::is(LoginResult::AnonymousRefused, None),
            (Some(username), None) if allow_anonymous => Login::is(LoginResult::Anonymous, Some(&username)),
            (Some(_), None) => Login::is(LoginResult::BadPassword, None),
            (Some(username), Some(file)) => {
                if self.check(&file, &username, password.unwrap_or_default()).await {
                    Login::is(LoginResult::Password, Some(&username))
                } else {
                    Login::is(LoginResult::BadPassword, None)
                }
            }
        }
    }

    async fn check(&self, file: &PasswordFile, username: &str, password: Vec<u8>) -> bool {
        let (hash, known) = file.find(username);
        let Some(hash) = hash else { return false };
        // The semaphore is never closed; if it were, nobody would get in.
        let Ok(_permit) = self.checks.acquire().await else { return false };
        tokio::task::spawn_blocking(move || hash.verify(&password)).await.is_ok_and(|fits| fits && known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users::new(Some(PasswordFile::parse(include_str!("testdata/pbkdf2.txt")).unwrap()))
    }

    fn credentials(username: Option<&str>, password: Option<&str>) -> Credentials {
        Credentials {
            username: username.map(str::to_owned),
            password: password.map(|text| text.as_bytes().to_vec()),
            certificate_name: None,
        }
    }

    async fn result(users: &Users, username: Option<&str>, password: Option<&str>, anonymous: bool) -> LoginResult {
        users.login(credentials(username, password), anonymous).await.result
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_fits() {
        let users = users();
        assert_eq!(result(&users, Some("u"), Some("secret"), false).await, LoginResult::Password);
        assert_eq!(result(&users, Some("u"), Some("wrong"), true).await, LoginResult::BadPassword);
        assert_eq!(result(&users, Some("u"), None, true).await, LoginResult::BadPassword);
        assert_eq!(result(&users, Some("v"), Some("secret"), true).await, LoginResult::BadPassword);
        assert_eq!(result(&users, Some(""), Some("secret"), true).await, LoginResult::BadPassword);
    }

    #[tokio::test]
    async fn anonymous_is_the_listeners_choice() {
        let users = users();
        assert_eq!(result(&users, None, None, true).await, LoginResult::Anonymous);
        assert_eq!(result(&users, None, None, false).await, LoginResult::AnonymousRefused);
    }

    #[tokio::test]
    async fn without_a_file_a_name_is_taken_only_where_anonymous_is() {
        let users = Users::new(None);
        let login = users.login(credentials(Some("tasmota"), Some("x")), true).await;
        assert_eq!(login, Login { result: LoginResult::Anonymous, username: Some("tasmota".into()) });
        assert_eq!(result(&users, Some("tasmota"), Some("x"), false).await, LoginResult::BadPassword);
    }

    #[tokio::test]
    async fn a_certificate_name_needs_no_password() {
        let users = users();
        let login = users
            .login(
                Credentials { certificate_name: Some("device-7".into()), ..credentials(Some("u"), Some("wrong")) },
                false,
            )
            .await;
        assert_eq!(login, Login { result: LoginResult::Certificate, username: Some("device-7".into()) });
    }
}
