//! Compressed and encrypted values on real servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use valkyrie_store::codec::{CodecConfig, Compression, Unencoded, ValueKey};
use valkyrie_store::{
    Condition, Flavor, HybridConfig, HybridStore, Lifetime, MigratingStore, MigrationConfig,
    MigrationPace, Phase, RedisConfig, RedisStore, StoreAdapter, StoreConfig, StoreError,
};

use crate::conformance::conform;
use crate::server::Server;

/// 64 hex digits of this byte.
fn digits(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

/// The first of these keys encrypts, and long values are compressed.
pub(crate) fn encrypting(keys: &[u8]) -> CodecConfig {
    let lines: Vec<String> = keys.iter().copied().map(digits).collect();
    CodecConfig {
        compression: Compression::Zstd,
        keys: ValueKey::of_lines(&lines.join("\n").into()).unwrap(),
        ..CodecConfig::default()
    }
}

fn store(server: &Server, codec: CodecConfig) -> RedisStore {
    let config = RedisConfig {
        codec: Some(codec),
        ..server.config("coded")
    };
    RedisStore::new(&config).unwrap()
}

#[tokio::test]
async fn stores_with_encoded_values_conform() {
    for flavor in [Flavor::Redis, Flavor::Valkey, Flavor::Yggdrasil] {
        let server = Server::start(flavor);
        let coded = store(&server, encrypting(&[1]));
        assert!(coded.caps().encoded);
        conform(&coded).await;
        let lz4 = CodecConfig {
            compression: Compression::Lz4,
            unencoded: Unencoded::Accept,
            ..CodecConfig::default()
        };
        let server = Server::start(flavor);
        conform(&store(&server, lz4)).await;
    }
}

#[tokio::test]
async fn server_sees_nothing_of_encrypted_values() {
    let server = Server::start(Flavor::Redis);
    let coded = store(&server, encrypting(&[1]));
    let raw = server.store("raw");
    assert!(!raw.caps().encoded);
    for value in [b"canary".to_vec(), b"canary ".repeat(1000)] {
        coded.set("k", &value, None).await.unwrap();
        let stored = raw.get("k").await.unwrap().unwrap();
        assert!(!stored.windows(6).any(|part| part == b"canary"));
        assert!(stored.len() < value.len() + 60);
        assert_eq!(coded.get("k").await.unwrap(), Some(value));
    }
}

fn rejected(error: &StoreError, part: &str) {
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    assert!(error.to_string().contains(part), "{part} in {error}");
}

#[tokio::test]
async fn values_that_were_tampered_with_are_errors() {
    let server = Server::start(Flavor::Valkey);
    let coded = store(&server, encrypting(&[1]));
    let raw = server.store("raw");
    coded.set("a", "value", None).await.unwrap();
    let stored = raw.get("a").await.unwrap().unwrap();
    // At another key, and changed.
    raw.set("b", &stored, None).await.unwrap();
    rejected(&coded.get("b").await.unwrap_err(), "for another key");
    let mut changed = stored.clone();
    *changed.last_mut().unwrap() ^= 1;
    raw.set("a", &changed, None).await.unwrap();
    rejected(&coded.get("a").await.unwrap_err(), "was changed");
    let equals = Condition::Equals(b"value");
    let unlimited = Lifetime::Unlimited;
    let written = coded.write(b"a", b"w", unlimited, equals).await;
    rejected(&written.unwrap_err(), "was changed");
    rejected(
        &coded.remove(b"a", equals).await.unwrap_err(),
        "was changed",
    );
    // Written over, and gone, it is no matter.
    coded.set("a", "new", None).await.unwrap();
    assert!(coded.delete("b").await.unwrap());
    let other = store(&server, encrypting(&[2]));
    rejected(&other.get("a").await.unwrap_err(), "not among the keys");
    let longest = CodecConfig::default().value_bytes_max;
    let long = coded.set("a", vec![0; longest + 1], None).await;
    rejected(&long.unwrap_err(), "longer than");
}

#[tokio::test]
async fn old_values_and_old_keys_go_on_until_they_may_not() {
    for flavor in [Flavor::Redis, Flavor::Yggdrasil] {
        let server = Server::start(flavor);
        let raw = server.store("raw");
        raw.set("plain", "old", None).await.unwrap();
        let first = store(&server, encrypting(&[1]));
        first.set("first", "value", None).await.unwrap();
        let both = store(&server, encrypting(&[2, 1]));
        for (key, value) in [("plain", "old"), ("first", "value")] {
            // Compared as what they are, whichever way they are stored.
            let (key, value) = (key.as_bytes(), value.as_bytes());
            assert_eq!(both.get(key).await.unwrap().as_deref(), Some(value));
            let write = async |expected: &[u8], new: &[u8]| {
                let equals = Condition::Equals(expected);
                let lifetime = Lifetime::Unlimited;
                let written = both.write(key, new, lifetime, equals).await;
                written.unwrap().is_done()
            };
            assert!(!write(b"other", b"new").await);
            assert!(write(value, b"new").await);
            assert!(!write(value, b"newer").await);
            assert!(write(b"new", b"new").await);
            assert!(!both.remove(key, Condition::Equals(value)).await.unwrap());
        }
        // All is encrypted with the new key by now.
        let strict = store(
            &server,
            CodecConfig {
                unencoded: Unencoded::Refuse,
                ..encrypting(&[2])
            },
        );
        for key in [b"plain", b"first"] {
            assert_eq!(strict.get(key).await.unwrap().as_deref(), Some(&b"new"[..]));
            let new = Condition::Equals(b"new");
            assert!(strict.remove(key, new).await.unwrap());
            assert!(!strict.remove(key, new).await.unwrap());
        }
        raw.set("plain", "again", None).await.unwrap();
        rejected(&strict.get("plain").await.unwrap_err(), "not encoded");
        // Counters are what they were, but cannot be read as values then.
        assert_eq!(strict.increment("n", 3).await.unwrap(), 3);
        assert_eq!(strict.increment("n", 0).await.unwrap(), 3);
        rejected(&strict.get("n").await.unwrap_err(), "not encoded");
    }
}

#[tokio::test]
async fn files_of_settings_say_how_values_are_encoded() {
    let server = Server::start(Flavor::Valkey);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let text = |more: &str| {
        format!(
            "store: {{ mode: valkey, valkey: {{ url: 'valkey://127.0.0.1:{}', {more} }} }}",
            server.port
        )
    };
    let from = format!("encryption_key_from: {{ file: '{}' }}", file.display());
    let all = format!("compression: lz4, compress_from_bytes: 10, encoding_required: true, {from}");
    let made = |text: String| HybridStore::new(StoreConfig::from_text(&text).unwrap());
    let write = |keys: &str| {
        fs::write(&file, keys).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&digits(1));
    let store = made(text(&all)).await.unwrap();
    store.set("k", "a".repeat(500), None).await.unwrap();
    let raw = server.store("raw");
    assert!(raw.get("k").await.unwrap().unwrap().len() < 100);
    assert_eq!(store.get("k").await.unwrap().unwrap(), [b'a'; 500]);
    for (keys, part) in [("canary", "line 1 is no key"), ("", "is empty")] {
        write(keys);
        let error = made(text(&all)).await.unwrap_err().to_string();
        assert!(
            error.contains("store.valkey.encryption_key_from: "),
            "{error}"
        );
        assert!(error.contains(part), "{part} in {error}");
        assert!(!error.contains("canary"), "{error}");
    }
    for (more, part) in [
        ("compression: gzip", "gzip"),
        ("encryption_key_from: { env: A, file: B }", "is one of"),
        ("encryption_key: abc", "encryption_key"),
    ] {
        let error = StoreConfig::from_text(&text(more)).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in {error}");
    }
}

/// What is stored moves as it is, so counters stay counters and encrypted values encrypted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoded_values_and_counters_move_to_another_store() {
    let (old, new) = (Server::start(Flavor::Redis), Server::start(Flavor::Valkey));
    let strict = CodecConfig {
        unencoded: Unencoded::Refuse,
        ..encrypting(&[1])
    };
    let first = store(&old, strict.clone());
    for number in 0..50 {
        first
            .set(format!("k{number}"), "canary", None)
            .await
            .unwrap();
        first.increment(format!("n{number}"), number).await.unwrap();
    }
    let config = MigrationConfig {
        refresh: Duration::from_millis(20),
        lease_max: Duration::from_millis(50),
        ..MigrationConfig::default()
    };
    let second = store(&new, strict);
    let moving = MigratingStore::open(first, second.clone(), config)
        .await
        .unwrap();
    assert!(moving.caps().encoded);
    let pace = MigrationPace {
        hold: Duration::from_millis(50),
        ..MigrationPace::default()
    };
    let report = moving.migrate(Phase::Done, &pace, &mut |_| ()).await;
    assert_eq!(report.unwrap().mismatched, 0);
    let raw = new.store("raw");
    for number in 0..50 {
        let key = format!("k{number}");
        assert_eq!(second.get(&key).await.unwrap().unwrap(), b"canary");
        assert!(raw.get(&key).await.unwrap().unwrap().len() > 50);
        let key = format!("n{number}");
        assert_eq!(second.increment(key, 1).await.unwrap(), number + 1);
    }
    // Both servers of a move are those of its chain.
    let chain = HybridStore::of([moving.into()], HybridConfig::default()).unwrap();
    assert!(chain.reload_credentials().await.unwrap().is_empty());
}
