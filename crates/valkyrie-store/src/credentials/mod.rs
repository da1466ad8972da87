//! Secrets that lie beside the settings.

mod environment;
mod error;
mod file;
mod rotation;
mod sealed;
mod source;

pub use environment::Environment;
pub use error::CredentialError;
pub(crate) use sealed::is_sealed;
pub use sealed::{AgeIdentity, seal};
pub(crate) use source::SourceSection;
pub use source::{Secret, SecretSource};

/// What the plaintext of `store.<store>.password_encrypted` begins with, on a line of its own.
///
/// It binds the ciphertext to its field: what was encrypted for one store is refused at another.
#[must_use]
pub fn password_purpose(store: &str) -> String {
    format!("valkyrie-store password {store}")
}
