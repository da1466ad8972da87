//! Text that is encrypted with age, for X25519 recipients.

use std::io::Read;
use std::path::Path;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, x25519};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::error::CredentialError;
use super::file::{self, Guard, SECRET_BYTES_MAX};
use super::source::credential_path;

/// Names the file with the identity.
pub(super) const IDENTITY_FILE: &str = "VALKYRIE_AGE_IDENTITY_FILE";
const IDENTITY: &str = "VALKYRIE_AGE_IDENTITY";
const CREDENTIAL: &str = "valkyrie-age-identity";
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";

type Result<T> = std::result::Result<T, CredentialError>;

/// What opens encrypted text. Wiped when dropped, never shown.
pub struct AgeIdentity(x25519::Identity);

impl std::fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgeIdentity({})", self.recipient())
    }
}

impl AgeIdentity {
    /// A new one, from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// The line that is kept: `AGE-SECRET-KEY-1` and so on.
    #[must_use]
    pub fn line(&self) -> SecretString {
        self.0.to_string()
    }

    /// Whom to encrypt for: `age1` and so on. No secret.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }
}

/// Encrypts a secret for its purpose, as text in lines of 64 characters.
///
/// # Errors
/// The recipient is none of X25519.
pub fn seal(recipient: &str, purpose: &str, secret: &SecretString) -> Result<String> {
    // Not shown: it may be the identity by mistake.
    let recipient = recipient.trim().parse::<x25519::Recipient>();
    let recipient = recipient.map_err(|_| CredentialError::BadRecipient)?;
    let secret = secret.expose_secret();
    let mut plaintext = Zeroizing::new(Vec::with_capacity(purpose.len() + 1 + secret.len()));
    for part in [purpose.as_bytes(), b"\n", secret.as_bytes()] {
        plaintext.extend_from_slice(part);
    }
    age::encrypt_and_armor(&recipient, &plaintext)
        .map_err(|error| CredentialError::Seal(error.to_string()))
}

/// Whether it looks like encrypted text.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.trim_start().starts_with(BEGIN)
}

/// The secret in encrypted text, if it is there for this purpose.
pub(super) fn open(
    armored: &str,
    purpose: &str,
    environment: &Environment,
) -> Result<SecretString> {
    let armored = armored.trim();
    if !is_sealed(armored) {
        return Err(CredentialError::NotSealed);
    }
    let identities = identities(environment)?;
    let decryptor = Decryptor::new_buffered(ArmoredReader::new(armored.as_bytes()));
    let known = identities
        .iter()
        .map(|identity| identity as &dyn age::Identity);
    let plaintext = decryptor.and_then(|decryptor| decryptor.decrypt(known));
    let plaintext = plaintext.map_err(|error| match error {
        DecryptError::NoMatchingKeys => CredentialError::OtherIdentity,
        _ => CredentialError::Damaged,
    })?;
    // No longer than its ciphertext, and a vector that grows leaves copies behind.
    let most = SECRET_BYTES_MAX + purpose.len() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(armored.len().min(most) + 1));
    let read = plaintext.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|_| CredentialError::Damaged)?;
    let secret = bytes
        .strip_prefix(purpose.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"\n"))
        .ok_or_else(|| CredentialError::OtherField(purpose.to_owned()))?;
    file::text("the encrypted secret", secret)
}

/// The identities of the first place that has some.
fn identities(environment: &Environment) -> Result<Vec<x25519::Identity>> {
    if let Some(path) = environment.text(IDENTITY_FILE) {
        let lines = file::read(Path::new(&path), Guard::Mode)?;
        return parsed(&path, &lines);
    }
    if let Some(lines) = environment.variable(IDENTITY) {
        return parsed(IDENTITY, &lines);
    }
    let path = credential_path(CREDENTIAL, environment).map_err(|_| CredentialError::NoIdentity)?;
    if !path.exists() {
        return Err(CredentialError::NoIdentity);
    }
    let lines = file::read(&path, Guard::Directory)?;
    parsed(&path.display().to_string(), &lines)
}

fn parsed(name: &str, lines: &SecretString) -> Result<Vec<x25519::Identity>> {
    let lines = lines.expose_secret().lines().map(str::trim).zip(1..);
    let identities: Result<Vec<x25519::Identity>> = lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| {
            let wrong = |_| CredentialError::BadIdentity(name.to_owned(), number);
            line.parse().map_err(wrong)
        })
        .collect();
    match identities? {
        none if none.is_empty() => Err(CredentialError::Empty(name.to_owned())),
        some => Ok(some),
    }
}
