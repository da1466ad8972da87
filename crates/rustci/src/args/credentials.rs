//! `rustci store credentials`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use valkyrie_store::credentials::SecretSource;

/// The stores that have passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreName {
    /// `store.redis`.
    Redis,
    /// `store.valkey`.
    Valkey,
    /// `store.yggdrasil`.
    Yggdrasil,
}

impl StoreName {
    /// As in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Yggdrasil => "yggdrasil",
        }
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyUse {
    /// An identity of age, for `password_encrypted`.
    Passwords,
    /// A key of values, for `encryption_key_from`.
    Values,
}

/// The commands of `rustci store credentials`.
#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsCommand {
    /// Make an identity that opens encrypted passwords, and print whom to encrypt them for
    Keygen {
        /// What it is for
        #[arg(long = "for", value_enum, default_value_t = KeyUse::Passwords, value_name = "USE")]
        purpose: KeyUse,
        /// Write it into this new file, which only its owner can read; without it, it is printed
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Encrypt a password and print what to put into valkyrie.yaml
    ///
    /// The password is read from standard input; the line end behind it is left out.
    Encrypt {
        /// The store that it is for: it opens for no other
        #[arg(long, value_enum, value_name = "NAME")]
        store: StoreName,
        /// Whom to encrypt it for, as `keygen` prints it
        #[arg(long, value_name = "AGE1")]
        recipient: String,
        /// Read the password from standard input even where that is a terminal, which shows it
        #[arg(long)]
        stdin: bool,
    },
    /// Look for all passwords and say where each comes from
    Check {
        /// The file of the stores
        #[arg(long, value_name = "FILE", default_value = "valkyrie.yaml")]
        config: PathBuf,
    },
    /// Give a store's user another password at the server
    ///
    /// The server has both passwords until the new one was proven to work; connections that are open
    /// stay.
    Rotate {
        /// The file of the stores, with the password of now
        #[arg(long, value_name = "FILE", default_value = "valkyrie.yaml")]
        config: PathBuf,
        /// The store
        #[arg(long, value_enum, value_name = "NAME")]
        store: StoreName,
        /// Where the new password is: env:NAME, file:PATH or systemd:NAME
        #[arg(long, value_name = "SOURCE", value_parser = source)]
        new_from: SecretSource,
    },
}

/// Reads `env:NAME`, `file:PATH` or `systemd:NAME`. What it is given instead may be a password.
fn source(text: &str) -> Result<SecretSource, String> {
    match text.split_once(':') {
        Some(("env", name)) if !name.is_empty() => Ok(SecretSource::Env(name.to_owned())),
        Some(("file", path)) if !path.is_empty() => Ok(SecretSource::File(path.into())),
        Some(("systemd", name)) if !name.is_empty() => {
            Ok(SecretSource::SystemdCredential(name.to_owned()))
        }
        _ => Err("that is no place; write env:NAME, file:PATH or systemd:NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_secrets_are_read() {
        let env = SecretSource::Env("A".to_owned());
        assert_eq!(source("env:A"), Ok(env));
        assert_eq!(source("file:/a:b"), Ok(SecretSource::File("/a:b".into())));
        for wrong in ["", "A", "env:", "vault:x", "hunter2"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }
}
