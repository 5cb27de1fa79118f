//! One login: what CONNECT and the certificate say against the users that there are.
//!
//! In: a user name, a password, a name from a client certificate, and whether the listener takes anonymous clients.
//! Out: an identity or why not. Must never: check a hash on a worker's thread, or answer an unknown user faster than a
//! known one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;

use super::PasswordFile;
use super::secret::{Key, Secret};
use super::write::{SCRAM_ITERATIONS, SCRAM_SALT};
use crate::limits::PASSWORD_CHECKS;

/// Who may log in, shared by all workers; replaced whole on reload.
#[derive(Debug)]
pub(crate) struct Users {
    file: ArcSwapOption<PasswordFile>,
    /// Hashes that are computed at a time.
    checks: Semaphore,
    /// What the salts of users that there are not are made with. Another one in every process.
    fake_key: Key,
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
    /// The client proved a password by SCRAM, at CONNECT or again later.
    Scram,
    /// It did not.
    BadScram,
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
    pub(crate) const ALL: [Self; 7] = [
        Self::Password,
        Self::Certificate,
        Self::Anonymous,
        Self::BadPassword,
        Self::AnonymousRefused,
        Self::Scram,
        Self::BadScram,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Anonymous => "anonymous",
            Self::BadPassword => "bad_password",
            Self::AnonymousRefused => "anonymous_refused",
            Self::Scram => "scram",
            Self::BadScram => "bad_scram",
        }
    }

    pub(crate) const fn is_success(self) -> bool {
        matches!(self, Self::Password | Self::Certificate | Self::Anonymous | Self::Scram)
    }
}

impl Login {
    fn is(result: LoginResult, username: Option<&str>) -> Self {
        Self { result, username: username.map(Arc::from) }
    }
}

impl Users {
    pub(crate) fn new(file: Option<PasswordFile>) -> Self {
        let mut fake_key = Key::default();
        // Without randomness there is no nonce either, and no exchange gets as far as a salt.
        let _ = crate::tls::random(&mut fake_key);
        Self { file: ArcSwapOption::new(file.map(Arc::new)), checks: Semaphore::new(PASSWORD_CHECKS), fake_key }
    }

    /// What `username` has to prove, and whether there is such a user. For an unknown one, and for one whose line is no
    /// SCRAM line, it is a fake that stays the same as long as the process lives; making it takes every user the same time.
    pub(crate) fn secret(&self, username: &str) -> (Secret, bool) {
        let file = self.file.load();
        let shape = file.as_ref().and_then(|file| file.scram_shape());
        let (iterations, salt_length) = shape.unwrap_or((SCRAM_ITERATIONS, SCRAM_SALT));
        let fake = Secret::fake(&self.fake_key, username, iterations, salt_length);
        match file.as_ref().and_then(|file| file.scram_secret(username)) {
            Some(secret) => (secret.clone(), true),
            None => (fake, false),
        }
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
