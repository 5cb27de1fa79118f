//! What stands behind `?` in an address.
//!
//! In: the query. Out: values within their bounds, or what was expected and what came. Must never: pass over a word that means
//! nothing.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::problem::Problem;

/// The words of a query, each to be taken once.
pub(super) struct Params(BTreeMap<String, String>);

impl<S: Sync + Send> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|error| Problem::malformed(error.to_string()))?;
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if let Some(before) = params.insert(name.clone(), value) {
                return Err(Problem::malformed(format!("`{name}` stands there twice, first as {before:?}")));
            }
        }
        Ok(Self(params))
    }
}

impl Params {
    /// The text of `name`; an empty one is as none.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|text| !text.is_empty())
    }

    /// What `read` makes of `name`.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || Problem::malformed(format!("`{name}`: expected {expected}, found {text:?}"));
        read(&text).map(Some).ok_or_else(wrong)
    }

    /// Nothing may be left.
    pub(super) fn end(self, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let known = known.join("`, `");
                Err(Problem::malformed(format!("`{name}` means nothing behind `?` here; there are `{known}`")))
            }
        }
    }
}
