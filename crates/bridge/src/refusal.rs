//! What a remote refuses CONNECT with.

use std::fmt;

use viaduct_codec::{ReasonCode, ReturnCode};

/// A code that refuses, in the words of the version that it came in: whoever looks for it elsewhere finds it under these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means, whoever says it.
    pub reason: ReasonCode,
    /// As 3.x has it, when that is how it came.
    code: Option<ReturnCode>,
}

impl Refusal {
    /// That of a 3.x CONNACK; `None` when it accepts, or is reserved.
    #[must_use]
    pub fn of_return_code(code: u8) -> Option<Self> {
        let reason = ReasonCode::from_return_code(code).filter(|reason| reason.is_error())?;
        Some(Self { reason, code: Some(ReturnCode(code)) })
    }

    /// The number alone.
    #[must_use]
    pub fn number(self) -> String {
        match self.code {
            Some(ReturnCode(code)) => format!("return code {code}"),
            None => format!("{:#04x}", self.reason.0),
        }
    }
}

/// That of 5.0.
impl From<ReasonCode> for Refusal {
    fn from(reason: ReasonCode) -> Self {
        Self { reason, code: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => code.fmt(f),
            None => self.reason.fmt(f),
        }
    }
}
