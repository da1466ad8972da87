//! `rustci store credentials`.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write, stdin};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use valkyrie_store::codec::ValueKey;
use valkyrie_store::credentials::{
    AgeIdentity, CredentialError, Environment, Secret, SecretSource, password_purpose, seal,
};
use valkyrie_store::{
    CredentialStatus, ExposeSecret, Origin, SecretString, StoreAdapter, StoreConfig, StoreError,
};

use crate::args::CredentialsCommand;
use crate::args::credentials::{KeyUse, StoreName};
use crate::exit::Exit;
use crate::failure::{Failure, plural};
use crate::output::{Format, Output};
use crate::render::table;

/// One more byte than a password may have, so that a longer one is noticed.
const READ_BYTES_MAX: u64 = (64 << 10) + 1;

/// Does what the subcommand says.
///
/// # Errors
/// Settings or a recipient that are none, a password that cannot be had, a server that refuses.
pub(super) async fn credentials(
    command: &CredentialsCommand,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match command {
        CredentialsCommand::Keygen { purpose, output } => keygen(*purpose, output.as_deref(), out),
        CredentialsCommand::Encrypt {
            store,
            recipient,
            stdin,
        } => {
            if !stdin {
                ensure_piped()?;
            }
            let password = read_password()?;
            encrypt(*store, recipient, &password, out)
        }
        CredentialsCommand::Check { config } => check(config, out),
        CredentialsCommand::Rotate {
            config,
            store,
            new_from,
        } => rotate(config, *store, new_from, out).await,
    }
}

/// A new key: its lines, the secret among them, and what may be told of it.
struct NewKey {
    text: SecretString,
    secret: SecretString,
    recipient: Option<String>,
}

impl NewKey {
    fn generate(purpose: KeyUse) -> Result<Self, Failure> {
        let lines = |public: &str, secret: &SecretString| {
            SecretString::from(format!("{public}{}\n", secret.expose_secret()))
        };
        match purpose {
            KeyUse::Passwords => {
                let identity = AgeIdentity::generate();
                let (recipient, secret) = (identity.recipient(), identity.line());
                Ok(Self {
                    text: lines(&format!("# public key: {recipient}\n"), &secret),
                    secret,
                    recipient: Some(recipient),
                })
            }
            KeyUse::Values => {
                let secret = ValueKey::generate();
                let secret = secret.map_err(|error| Failure::engine("cannot make a key", error))?;
                Ok(Self {
                    text: lines("", &secret),
                    secret,
                    recipient: None,
                })
            }
        }
    }
}

fn keygen(purpose: KeyUse, file: Option<&Path>, out: &mut Output) -> Result<Exit, Failure> {
    let key = NewKey::generate(purpose)?;
    let (recipient, text) = (&key.recipient, key.text.expose_secret());
    if let Some(file) = file {
        write_new(file, text).map_err(Failure::io(format!("make {}", file.display())))?;
    }
    match (out.format(), file) {
        (Format::Json, Some(_)) => out.json(&json!({"recipient": recipient, "file": file}))?,
        (Format::Json, None) => {
            out.json(&json!({"recipient": recipient, "key": key.secret.expose_secret()}))?;
        }
        (Format::Text, Some(file)) => {
            let made = recipient.clone();
            let made = made.unwrap_or_else(|| format!("{} has a new key", file.display()));
            out.text(&(made + "\n"))?;
        }
        (Format::Text, None) => out.text(text)?,
    }
    Ok(Exit::Success)
}

/// Writes a file that only its owner can read. One that is there opens something, and stays.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A terminal would show the password.
fn ensure_piped() -> Result<(), Failure> {
    match stdin().is_terminal() {
        false => Ok(()),
        true => Err(Failure::Usage {
            message: "the password is read from standard input, and that is a terminal".to_owned(),
            hint: "pipe it in, or pass --stdin and see it while you type".to_owned(),
        }),
    }
}

/// The password on standard input.
fn read_password() -> Result<SecretString, Failure> {
    let mut text = String::new();
    let read = stdin().take(READ_BYTES_MAX).read_to_string(&mut text);
    read.map_err(Failure::io("read the password from standard input"))?;
    let text = SecretString::from(text);
    let password = text.expose_secret().trim_end_matches(['\r', '\n']);
    if password.is_empty() || text.expose_secret().len() as u64 == READ_BYTES_MAX {
        return Err(Failure::Usage {
            message: "standard input has no password of 1 byte to 64 KiB".to_owned(),
            hint: "pipe it in".to_owned(),
        });
    }
    Ok(password.into())
}

fn encrypt(
    store: StoreName,
    recipient: &str,
    password: &SecretString,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let name = store.name();
    let sealed = seal(recipient, &password_purpose(name), password);
    let sealed = sealed.map_err(|error| Failure::Usage {
        message: format!("--recipient: {error}"),
        hint: "`rustci store credentials keygen` prints one".to_owned(),
    })?;
    match out.format() {
        Format::Json => out.json(&json!({"store": name, "password_encrypted": sealed}))?,
        Format::Text => {
            let mut text = format!("store:\n  {name}:\n    password_encrypted: |\n");
            for line in sealed.lines() {
                text.push_str(&format!("      {line}\n"));
            }
            out.text(&text)?;
        }
    }
    Ok(Exit::Success)
}

fn check(config: &Path, out: &mut Output) -> Result<Exit, Failure> {
    let stores = StoreConfig::from_file(config)
        .map_err(refused)?
        .credentials();
    let state = |status: &CredentialStatus| match (&status.error, &status.origin) {
        (Some(error), _) => error.to_string(),
        (None, Origin::Nothing) => "none".to_owned(),
        (None, _) => "found".to_owned(),
    };
    match out.format() {
        Format::Json => {
            let views: Vec<_> = stores
                .iter()
                .map(|status| {
                    let error = status.error.as_ref().map(ToString::to_string);
                    json!({
                        "store": status.store, "username": status.username,
                        "field": field(status), "origin": status.origin.to_string(),
                        "error": error,
                    })
                })
                .collect();
            out.json(&json!({"stores": views}))?;
        }
        Format::Text => {
            let row = |status: &CredentialStatus| {
                vec![
                    status.store.to_owned(),
                    status.username.clone().unwrap_or_else(|| "default".into()),
                    status.origin.to_string(),
                    state(status),
                ]
            };
            let rows: Vec<Vec<String>> = stores.iter().map(row).collect();
            let lines = table::table(&["STORE", "USER", "PASSWORD", "STATE"], &rows, out.look());
            out.text(&(lines.join("\n") + "\n"))?;
        }
    }
    let wrong: Vec<String> = stores
        .iter()
        .filter_map(|status| status.error.as_ref())
        .map(ToString::to_string)
        .collect();
    if wrong.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Failure::Refused {
        message: format!(
            "{} cannot be had\n  {}",
            plural(wrong.len(), "password"),
            wrong.join("\n  ")
        ),
        hint: None,
    })
}

fn field(status: &CredentialStatus) -> Option<&str> {
    match &status.origin {
        Origin::Source { field, .. } => Some(field),
        Origin::Nothing | Origin::Program => None,
    }
}

async fn rotate(
    file: &Path,
    store: StoreName,
    new_from: &SecretSource,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let name = store.name();
    let mut config = StoreConfig::from_file(file).map_err(refused)?;
    let new = Secret::new(new_from.clone(), Environment::process()).read();
    let new = new.map_err(|error: CredentialError| Failure::Usage {
        message: format!("--new-from: {error}"),
        hint: "put the new password there".to_owned(),
    })?;
    let server = config.server(name).map_err(refused)?;
    let status = config.credentials().into_iter();
    let status = status.into_iter().find(|status| status.store == name);
    server.change_password(new.clone()).await.map_err(refused)?;
    // As a program does that starts now.
    config
        .set_password(name, new.expose_secret())
        .map_err(refused)?;
    let fresh = config.server(name).map_err(refused)?;
    fresh.ping().await.map_err(refused)?;
    let next = status.map(|status| what_to_change(file, name, &status.origin));
    let next = next.unwrap_or_default();
    match out.format() {
        Format::Json => out.json(&json!({"store": name, "rotated": true, "to_change": next}))?,
        Format::Text => {
            let mut text = format!("{name} has the new password, and a new connection used it\n");
            text.push_str("change now, for what starts or connects from here on:\n");
            for line in &next {
                text.push_str(&format!("  - {line}\n"));
            }
            out.text(&text)?;
        }
    }
    Ok(Exit::Success)
}

/// Where the old password still stands.
fn what_to_change(file: &Path, store: &str, origin: &Origin) -> Vec<String> {
    let mut places = Vec::new();
    match origin {
        Origin::Source { field, source } => match source {
            SecretSource::Age { .. } => places.push(format!(
                "{field} in {}: the output of `rustci store credentials encrypt --store {store}`",
                file.display()
            )),
            SecretSource::File(_) | SecretSource::SystemdCredential(_) => places.push(format!(
                "{source}, which programs read again when they are refused or told to, as \
                 `rustci serve` by SIGHUP"
            )),
            _ => places.push(source.to_string()),
        },
        Origin::Nothing | Origin::Program => {}
    }
    places.push(format!(
        "the settings of {store}: it forgets the new password when it starts again, unless ACL SAVE or \
         CONFIG REWRITE writes it down; replicas outside of clusters have settings of their own"
    ));
    places
}

/// An error of a store as a failure of the command.
fn refused(error: StoreError) -> Failure {
    match error {
        StoreError::Unavailable { .. } => Failure::engine("cannot use the store", error),
        other => Failure::Refused {
            message: other.to_string(),
            hint: None,
        },
    }
}
