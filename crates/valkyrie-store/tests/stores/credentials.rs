//! Passwords come from where the file says, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::ExposeSecret;
use valkyrie_store::credentials::{
    AgeIdentity, CredentialError, Environment, Secret, SecretSource, password_purpose, seal,
};
use valkyrie_store::{HybridStore, StoreConfig};

const CANARY: &str = "canary-correct-horse";

fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn from_file(path: PathBuf) -> Result<String, CredentialError> {
    let secret = Secret::new(SecretSource::File(path), Environment::process()).read()?;
    Ok(secret.expose_secret().to_owned())
}

#[test]
fn files_are_read_if_nobody_else_can() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    for (text, mode, read) in [
        ("secret\n", 0o600, "secret"),
        ("secret\r\n", 0o400, "secret"),
        (" with spaces ", 0o600, " with spaces "),
        ("two\nlines\n", 0o600, "two\nlines"),
    ] {
        write(&path, text, mode);
        assert_eq!(from_file(path.clone()).unwrap(), read);
        fs::remove_file(&path).unwrap();
    }
    for mode in [0o640, 0o604, 0o660, 0o610, 0o644] {
        write(&path, CANARY, mode);
        let error = from_file(path.clone()).unwrap_err().to_string();
        let advice = format!("run: chmod 600 {}", path.display());
        assert!(error.contains(&advice), "{error}");
        assert!(error.contains(&format!("{mode:o}")), "{error}");
    }
}

#[test]
fn what_is_no_secret_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let absent = from_file(path.clone()).unwrap_err();
    assert!(absent.to_string().contains("cannot be read"), "{absent}");
    for (text, part) in [
        (&b"\n\n"[..], "is empty"),
        (&[0xFF, 0xFE], "UTF-8"),
        (&vec![b'x'; (64 << 10) + 1], "longer than 64 KiB"),
    ] {
        write(&path, text, 0o600);
        let error = from_file(path.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in {error}");
        fs::remove_file(&path).unwrap();
    }
    let error = from_file(dir.path().to_owned()).unwrap_err();
    assert_eq!(error, CredentialError::NoFile(dir.path().to_owned()));
    // Nobody writes into it, and nobody waits for that.
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    let error = from_file(path.clone()).unwrap_err();
    assert_eq!(error, CredentialError::NoFile(path));
}

#[test]
fn systemd_credentials_are_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    // As systemd leaves it: the directory guards it, the mode is the mask of an access list.
    write(&dir.path().join("redis"), "secret\n", 0o440);
    let directory = dir.path().display().to_string();
    let environment = Environment::of([("CREDENTIALS_DIRECTORY", directory)]);
    let read = |name: &str, environment: &Environment| {
        let source = SecretSource::SystemdCredential(name.to_owned());
        Secret::new(source, environment.clone()).read()
    };
    let secret = read("redis", &environment).unwrap();
    assert_eq!(secret.expose_secret(), "secret");
    for name in ["", ".", "..", "../redis", "/etc/passwd", "a/b"] {
        let error = read(name, &environment).unwrap_err();
        assert_eq!(error, CredentialError::BadName(name.to_owned()));
    }
    let nothing = Environment::of([("OTHER", "x")]);
    let error = read("redis", &nothing).unwrap_err().to_string();
    assert!(error.contains("LoadCredential=redis:PATH"), "{error}");
}

/// A file of settings with this under `redis`, and these variables.
fn config(section: &str, variables: &[(&str, &str)]) -> StoreConfig {
    let text =
        format!("store:\n  mode: redis\n  redis:\n    url: redis://127.0.0.1:1\n{section}\n");
    let mut config = StoreConfig::from_text(&text).unwrap();
    config.set_environment(Environment::of(variables.iter().copied()));
    config
}

/// A ciphertext as it stands in a file of settings.
fn block(armored: &str) -> String {
    let lines: Vec<String> = armored
        .lines()
        .map(|line| format!("      {line}"))
        .collect();
    format!("    password_encrypted: |\n{}", lines.join("\n"))
}

/// What is wrong with the password, in all places where it is said.
async fn refusal(config: StoreConfig) -> String {
    let status = config.credentials().remove(0);
    let checked = status.error.unwrap().to_string();
    let shown = format!("{config:?}");
    let error = HybridStore::new(config).await.unwrap_err();
    assert_eq!(error.to_string(), checked);
    for text in [&checked, &shown, &format!("{error:?}")] {
        assert!(!text.contains(CANARY), "{text}");
        assert!(!text.contains("AGE-SECRET"), "{text}");
    }
    checked
}

#[tokio::test]
async fn encrypted_passwords_open_for_their_field_and_identity_only() {
    let identity = AgeIdentity::generate();
    let line = identity.line();
    let variables = [("VALKYRIE_AGE_IDENTITY", line.expose_secret())];
    let sealed = |purpose: &str| seal(&identity.recipient(), purpose, &CANARY.into()).unwrap();
    let good = sealed(&password_purpose("redis"));
    let right = config(&block(&good), &variables);
    let status = right.credentials().remove(0);
    assert_eq!(status.origin.to_string(), "text encrypted with age");
    assert!(status.error.is_none(), "{:?}", status.error);
    HybridStore::new(right).await.unwrap();

    let field = "store.redis.password_encrypted: ";
    let ensure = async |config: StoreConfig, part: &str| {
        let error = refusal(config).await;
        assert!(error.starts_with(field), "{error}");
        assert!(error.contains(part), "{part} in {error}");
    };
    let other = AgeIdentity::generate().line();
    let other = [("VALKYRIE_AGE_IDENTITY", other.expose_secret())];
    ensure(config(&block(&good), &other), "another identity").await;
    ensure(config(&block(&good), &[("X", "")]), "VALKYRIE_AGE_IDENTITY").await;
    // Encrypted for another store, or for nothing at all: the first line is the secret then.
    let swapped = sealed(&password_purpose("valkey"));
    ensure(config(&block(&swapped), &variables), "another field").await;
    let bare = seal(&identity.recipient(), CANARY, &CANARY.into()).unwrap();
    ensure(config(&block(&bare), &variables), "another field").await;
    // Cut off anywhere, the marks of begin and end kept or not.
    let lines: Vec<&str> = good.lines().collect();
    for kept in 1..lines.len() - 1 {
        let cut = lines[..kept].join("\n");
        ensure(config(&block(&cut), &variables), "cut off or was changed").await;
        let ended = format!("{cut}\n-----END AGE ENCRYPTED FILE-----");
        ensure(config(&block(&ended), &variables), "cut off or was changed").await;
    }
}

#[tokio::test]
async fn no_byte_of_an_encrypted_password_can_be_changed() {
    let identity = AgeIdentity::generate();
    let line = identity.line();
    let variables = [("VALKYRIE_AGE_IDENTITY", line.expose_secret())];
    let purpose = password_purpose("redis");
    let good = seal(&identity.recipient(), &purpose, &CANARY.into()).unwrap();
    let begin = good.find('\n').unwrap();
    let end = good.rfind("-----END").unwrap();
    for at in (begin + 1..end).filter(|at| good.as_bytes()[*at].is_ascii_alphanumeric()) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = match bytes[at] {
            b'A' => b'B',
            _ => b'A',
        };
        let changed = String::from_utf8(bytes).unwrap();
        refusal(config(&block(&changed), &variables)).await;
    }
}

#[test]
fn identities_are_found_in_three_places() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (AgeIdentity::generate(), AgeIdentity::generate());
    let (right_line, wrong_line) = (right.line(), wrong.line());
    let (right_line, wrong_line) = (right_line.expose_secret(), wrong_line.expose_secret());
    let armored = seal(
        &right.recipient(),
        &password_purpose("redis"),
        &CANARY.into(),
    )
    .unwrap();
    let origin = |variables: &[(&str, &str)]| {
        let error = config(&block(&armored), variables)
            .credentials()
            .remove(0)
            .error;
        error.map(|error| error.to_string())
    };
    // As age-keygen writes it, and one for later beside it.
    let file = dir.path().join("identities");
    let lines = format!("# created: today\n\n{wrong_line}\n{right_line}\n");
    write(&file, lines, 0o600);
    let path = file.display().to_string();
    // The file comes first.
    let variables = [
        ("VALKYRIE_AGE_IDENTITY_FILE", path.as_str()),
        ("VALKYRIE_AGE_IDENTITY", wrong_line),
    ];
    assert_eq!(origin(&variables), None);
    assert_eq!(origin(&[("VALKYRIE_AGE_IDENTITY", right_line)]), None);
    write(&dir.path().join("valkyrie-age-identity"), right_line, 0o400);
    let directory = dir.path().display().to_string();
    assert_eq!(origin(&[("CREDENTIALS_DIRECTORY", &directory)]), None);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = origin(&variables).unwrap();
    assert!(error.contains("chmod 600"), "{error}");
    write(&file, format!("{right_line}\n{CANARY}\n"), 0o600);
    let error = origin(&variables).unwrap();
    assert!(error.contains("no age identity in line 2"), "{error}");
    assert!(!error.contains(CANARY), "{error}");
}

#[test]
fn the_first_place_that_has_a_password_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    write(&path, CANARY, 0o600);
    let origin = |config: &StoreConfig| config.credentials().remove(0).origin.to_string();
    let file = format!("    password_from: {{ file: '{}' }}", path.display());
    let mut both = config(&file, &[("VALKYRIE_REDIS_PASSWORD", "x")]);
    let variable = "the environment variable VALKYRIE_REDIS_PASSWORD";
    assert_eq!(origin(&both), variable);
    both.set_password("redis", "y").unwrap();
    assert_eq!(origin(&both), "the program");
    let of_file = origin(&config(&file, &[("A", "")]));
    assert_eq!(of_file, format!("the file {}", path.display()));
    assert_eq!(origin(&config("", &[("A", "")])), "no password");
    let empty = config("    password_encrypted: ''", &[("A", "")]);
    assert_eq!(origin(&empty), "no password");
    let unset = config("    password_from: { env: APP_PASSWORD }", &[("A", "")]);
    let error = unset.credentials().remove(0).error.unwrap().to_string();
    assert_eq!(
        error,
        "store.redis.password_from: the environment variable APP_PASSWORD is not set, or is not text"
    );
}

#[test]
fn recipients_are_checked() {
    let identity = AgeIdentity::generate();
    let line = identity.line();
    for wrong in [
        "",
        "age1",
        "ssh-ed25519 AAAA",
        "age1qqqqqqqq",
        line.expose_secret(),
    ] {
        let error = seal(wrong, "purpose", &CANARY.into())
            .unwrap_err()
            .to_string();
        assert!(!error.contains("AGE-SECRET"), "{error}");
    }
    assert!(!format!("{identity:?}").contains("SECRET"));
}
