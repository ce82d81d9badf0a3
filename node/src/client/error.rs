//! Why there is no answer, or none that was hoped for.

/// What a call can come to besides its answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster said no: the refusal in words.
    #[error("{0}")]
    Refused(String),
    /// There is no such request.
    #[error("{0}")]
    Impossible(String),
    /// Nobody answered; a write may have taken effect all the same.
    #[error("{0}")]
    NoAnswer(String),
}
