//! Sealing single values: XChaCha20-Poly1305 under a random nonce.
//!
//! Scope, name and version are authenticated with the value, so that whoever can write the store's
//! file, but has no key, cannot give one project the value of another or of another name.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::secrets::key::SecretKey;
use crate::secrets::{Scope, SecretName, SecretsError};

/// Bytes of a nonce. Random ones of this length do not meet in the life of a key.
pub(super) const NONCE_BYTES: usize = 24;

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) bytes: Vec<u8>,
}

/// What a value belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label<'l> {
    pub(super) scope: &'l Scope,
    pub(super) name: &'l SecretName,
    pub(super) version: u64,
}

impl Label<'_> {
    /// The label as bytes. Lengths stand before texts, so that two labels are never the same.
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = b"rustci secret 1".to_vec();
        let project = self.scope.project();
        bytes.push(u8::from(project.is_some()));
        for text in [project.unwrap_or_default(), self.name.as_str()] {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// Seals `value` for `label`.
pub(super) fn seal(key: &SecretKey, label: Label<'_>, value: &str) -> Result<Sealed, SecretsError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| SecretsError::Random(error.to_string()))?;
    let aad = label.to_bytes();
    let payload = Payload {
        msg: value.as_bytes(),
        aad: &aad,
    };
    let bytes = cipher(key)
        .encrypt(XNonce::from_slice(&nonce), payload)
        .map_err(|_| SecretsError::TooLarge(value.len()))?;
    Ok(Sealed { nonce, bytes })
}

/// The value, if `key` sealed it for `label`.
pub(super) fn open(
    key: &SecretKey,
    label: Label<'_>,
    sealed: &Sealed,
) -> Option<Zeroizing<String>> {
    let aad = label.to_bytes();
    let payload = Payload {
        msg: &sealed.bytes,
        aad: &aad,
    };
    let nonce = XNonce::from_slice(&sealed.nonce);
    let bytes = cipher(key).decrypt(nonce, payload).ok()?;
    String::from_utf8(bytes).ok().map(Zeroizing::new)
}

fn cipher(key: &SecretKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_for_its_own_label_and_key_only() {
        let (key, other) = (SecretKey::random().unwrap(), SecretKey::random().unwrap());
        let (name, wrong) = (SecretName::new("A").unwrap(), SecretName::new("B").unwrap());
        let shop = Scope::Project("shop".to_owned());
        let label = Label {
            scope: &shop,
            name: &name,
            version: 3,
        };
        let sealed = seal(&key, label, "hunter2").unwrap();
        assert_eq!(open(&key, label, &sealed).unwrap().as_str(), "hunter2");
        assert!(open(&other, label, &sealed).is_none());
        let moved = [
            Label {
                scope: &Scope::Global,
                ..label
            },
            Label {
                name: &wrong,
                ..label
            },
            Label {
                version: 4,
                ..label
            },
        ];
        for label in moved {
            assert!(open(&key, label, &sealed).is_none(), "{label:?}");
        }
        let mut bent = sealed.clone();
        bent.bytes[0] ^= 1;
        assert!(open(&key, label, &bent).is_none());
        assert_ne!(
            seal(&key, label, "hunter2").unwrap(),
            sealed,
            "nonces differ"
        );
    }
}
