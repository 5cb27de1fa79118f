//! The files that a configuration names, read once to find everything that is wrong with them.
//!
//! In: a configuration that makes sense. Out: every file that can't be used, in one go. Nothing is started or bound.

use viaduct_config::Config;

use crate::auth::{load_authorizer, load_users};
use crate::bridge::{self, BridgeStatus};
use crate::reload::{self, SetupError};
use crate::run::read_token;

/// Reads users, rules, certificates, keys and tokens, and says what is wrong with each of them.
#[must_use]
pub fn check_files(config: &Config) -> Vec<SetupError> {
    let mut errors = Vec::new();
    let users = load_users(config.auth.password_file.as_deref()).unwrap_or_else(|error| {
        errors.push(SetupError::from(error));
        None
    });
    errors.extend(load_authorizer(config.auth.acl_file.as_deref()).err().map(SetupError::from));
    for listener in &config.listeners {
        errors.extend(reload::policy(config, listener, users.as_ref(), "").err().map(SetupError::from));
    }
    for bridge in config.bridges.iter().filter(|bridge| bridge.enabled) {
        let plan = bridge::plan(config, bridge, "", BridgeStatus::new(&bridge.name));
        errors.extend(plan.err().map(SetupError::from));
    }
    if let Some(path) = &config.admin.token_file {
        errors.extend(read_token(path).err());
    }
    errors
}
