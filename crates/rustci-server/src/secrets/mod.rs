//! Secrets: where values come from, and how those that are kept here lie on the disk.
//!
//! [`SecretStore`] keeps them sealed, each value for itself, under a key in a file of its own.
//! [`SecretsSource`] joins the store with a file of plain lines and the environment. Values leave
//! only towards the job that asks for them: no answer of the API, no log line and no `Debug` has
//! one.

mod error;
mod key;
mod name;
mod seal;
mod source;
mod store;
mod table;

pub use crate::expected::Expected;
pub use error::SecretsError;
pub use key::{KEY_FILE, KeyPlace};
pub use name::{Scope, SecretName};
pub use source::{Order, SECRET_ENV_PREFIX, Secrets, SecretsSource};
pub(crate) use store::STORE_FILE;
pub use store::{Put, SecretInfo, SecretStore};

/// Name of the store's directory in a data directory.
pub const SECRETS_DIR: &str = "secrets";
