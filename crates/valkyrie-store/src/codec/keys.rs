//! Keys that encrypt values.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

const KEY_BYTES: usize = 32;
const KEYS_MAX: usize = 16;

/// A key that encrypts values. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct ValueKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: [u8; 4],
}

impl fmt::Debug for ValueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueKey({})", shown(&self.id))
    }
}

/// Why keys are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A line is something else.
    #[error("line {0} is no key, which is 64 hex digits")]
    Line(usize),
    /// There is none.
    #[error("there is no key; one is 64 hex digits")]
    None,
    /// There are more than 16.
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
    /// Two are the same, or have the same id by chance.
    #[error("key {0} is there twice; take one of them away")]
    Twice(String),
    /// The system has no randomness.
    #[error("no random bytes: {0}")]
    Random(String),
}

impl ValueKey {
    /// The keys in a text: one of 64 hex digits in a line; empty lines and those that begin with `#`
    /// are left out. The first one encrypts.
    ///
    /// # Errors
    /// There is none, there are more than 16, one twice, or a line is something else.
    pub fn of_lines(text: &SecretString) -> Result<Vec<Self>, KeyError> {
        let lines = text.expose_secret().lines().map(str::trim).zip(1..);
        let keys: Result<Vec<Self>, KeyError> = lines
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, number)| Self::of_digits(line).ok_or(KeyError::Line(number)))
            .collect();
        let keys = keys?;
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        ensure_distinct(&keys)?;
        Ok(keys)
    }

    /// A line with a new key, from the system's randomness.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<SecretString, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(|error| KeyError::Random(error.to_string()))?;
        let mut digits = String::with_capacity(2 * KEY_BYTES);
        for byte in bytes.iter() {
            for half in [byte >> 4, byte & 15] {
                digits.extend(char::from_digit(half.into(), 16));
            }
        }
        Ok(digits.into())
    }

    fn of_digits(line: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let digits = line.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        let mut digest = blake3::derive_key("valkyrie-store: id of a key of values", &*bytes);
        let id = *digest.first_chunk()?;
        digest.zeroize();
        Some(Self { bytes, id })
    }

    /// Tells keys apart without telling the key.
    pub(super) const fn id(&self) -> &[u8; 4] {
        &self.id
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

pub(super) fn ensure_distinct(keys: &[ValueKey]) -> Result<(), KeyError> {
    if keys.len() > KEYS_MAX {
        return Err(KeyError::TooMany);
    }
    let mut seen = std::collections::BTreeSet::new();
    match keys.iter().find(|key| !seen.insert(key.id)) {
        Some(key) => Err(KeyError::Twice(shown(&key.id))),
        None => Ok(()),
    }
}

/// An id as text.
pub(super) fn shown(id: &[u8; 4]) -> String {
    format!("{:08x}", u32::from_be_bytes(*id))
}
