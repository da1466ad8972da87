//! Where a secret is.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::environment::Environment;
use super::error::CredentialError;
use super::file::{self, Guard};
use super::sealed;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretSource {
    /// In this environment variable.
    Env(String),
    /// In this file, whose mode is 600 or stricter; line ends behind the secret are left out.
    File(PathBuf),
    /// In the credential of this name that systemd put into `CREDENTIALS_DIRECTORY`.
    SystemdCredential(String),
    /// In this text, encrypted with age for an X25519 recipient. The identity is found in the file
    /// that `VALKYRIE_AGE_IDENTITY_FILE` names, in `VALKYRIE_AGE_IDENTITY`, or in the systemd
    /// credential `valkyrie-age-identity`.
    Age {
        /// The first line of the plaintext; see [`password_purpose`](super::password_purpose).
        purpose: String,
        /// The text, which begins with `-----BEGIN AGE ENCRYPTED FILE-----`.
        armored: String,
    },
}

impl SecretSource {
    /// Whether it may say something else later.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(self, Self::File(_) | Self::SystemdCredential(_))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::SystemdCredential(name) => write!(f, "the systemd credential {name}"),
            Self::Age { .. } => f.write_str("text encrypted with age"),
        }
    }
}

/// A secret that is read where it lies, each time it is asked for.
#[derive(Debug, Clone)]
pub struct Secret {
    source: SecretSource,
    environment: Environment,
}

impl Secret {
    /// The one at this source.
    #[must_use]
    pub const fn new(source: SecretSource, environment: Environment) -> Self {
        Self {
            source,
            environment,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn source(&self) -> &SecretSource {
        &self.source
    }

    /// Reads it: at most 64 KiB of text. Blocks on files.
    ///
    /// # Errors
    /// It is not there, cannot be read or opened, or others could read it, too.
    pub fn read(&self) -> Result<SecretString, CredentialError> {
        match &self.source {
            SecretSource::Env(name) => {
                let value = self.environment.variable(name);
                let value = value.ok_or_else(|| CredentialError::NotSet(name.clone()))?;
                file::text(&self.source.to_string(), value.expose_secret().as_bytes())
            }
            SecretSource::File(path) => file::read(path, Guard::Mode),
            SecretSource::SystemdCredential(name) => {
                let path = credential_path(name, &self.environment)?;
                file::read(&path, Guard::Directory)
            }
            SecretSource::Age { purpose, armored } => {
                sealed::open(armored, purpose, &self.environment)
            }
        }
    }
}

/// Where systemd puts a credential.
pub(super) fn credential_path(
    name: &str,
    environment: &Environment,
) -> Result<PathBuf, CredentialError> {
    let is_name = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if !is_name {
        return Err(CredentialError::BadName(name.to_owned()));
    }
    let directory = environment.text("CREDENTIALS_DIRECTORY");
    let directory = directory.ok_or_else(|| CredentialError::NoDirectory(name.to_owned()))?;
    Ok(Path::new(&directory).join(name))
}

/// `{env: NAME}`, `{file: PATH}` or `{systemd: NAME}` in a file of settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceSection {
    env: Option<String>,
    file: Option<PathBuf>,
    systemd: Option<String>,
}

impl SourceSection {
    /// The source that is meant; `None` where it is none or several.
    pub(crate) fn source(&self) -> Option<SecretSource> {
        match (&self.env, &self.file, &self.systemd) {
            (Some(name), None, None) => Some(SecretSource::Env(name.clone())),
            (None, Some(path), None) => Some(SecretSource::File(path.clone())),
            (None, None, Some(name)) => Some(SecretSource::SystemdCredential(name.clone())),
            _ => None,
        }
    }
}
