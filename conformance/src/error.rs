//! What can go wrong: a text that is no conversation, and a conversation that went another way.

use thiserror::Error;

/// A text that does not say what it means.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {what}")]
pub struct SyntaxError {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// A step that went otherwise than it is written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {step}\n    {what}\n{transcript}")]
pub struct Failure {
    /// The file of the conversation.
    pub file: String,
    /// The line of the step, from 1.
    pub line: usize,
    /// The step as it is written.
    pub step: String,
    /// What was wanted and what came.
    pub what: String,
    /// What was said before, one packet a line.
    pub transcript: String,
}
