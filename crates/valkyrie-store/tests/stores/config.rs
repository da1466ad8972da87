//! `valkyrie.yaml`, and the program of the requirement with it.

use std::process::Command;

use valkyrie_store::{Flavor, HybridStore, StoreAdapter, StoreConfig};

use crate::server::{Server, free_port};

/// The file of the requirement, as it is printed there.
const FILE: &str = include_str!("../../examples/valkyrie.yaml");

#[tokio::test]
async fn file_of_the_requirement_is_read_as_it_stands() {
    let config = StoreConfig::from_text(FILE).unwrap();
    assert_eq!(config.chain(), ["redis", "valkey"]);
    assert!(HybridStore::new(config).await.is_ok());
}

#[test]
fn program_of_the_requirement_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("valkyrie.yaml");
    let run = |text: String| {
        std::fs::write(&file, text).unwrap();
        let program = Command::new(env!("CARGO"))
            .args([
                "run",
                "-q",
                "-p",
                "valkyrie-store",
                "--example",
                "hybrid",
                "--",
            ])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&program.stdout).into_owned();
        (said, String::from_utf8_lossy(&program.stderr).into_owned())
    };
    let expected =
        "Retrieved: Some([109, 121, 95, 118, 97, 108, 117, 101])\nTokens consumed: true\n";
    let server = Server::start(Flavor::Redis);
    let (said, error) = run(FILE.replace("6379", &server.port.to_string()));
    assert_eq!(said, expected, "{error}");
    // The first store is gone: the second one does it.
    let other = Server::start(Flavor::Valkey);
    let text = FILE
        .replace("6379", &free_port().to_string())
        .replace("6380", &other.port.to_string())
        .replace("username: \"valkey_user\"", "")
        .replace("cluster_mode: true", "cluster_mode: false")
        .replace("tls: true", "tls: false");
    let (said, error) = run(text);
    assert_eq!(said, expected, "{error}");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let redis = "redis: { url: 'redis://localhost:1'";
    for (text, part) in [
        ("", "end of input"),
        ("store: {}", "mode"),
        ("store: { mode: mongodb }", "mongodb"),
        ("store: { mode: redis }", "there is no store.redis"),
        (
            "store: { mode: memory, fallback_chain: [valkey] }",
            "there is no store.valkey",
        ),
        ("store: { mode: memory, colour: red }", "colour"),
        (
            &format!("store: {{ mode: redis, {redis}, password: secret }} }}"),
            "VALKYRIE_REDIS_PASSWORD",
        ),
        (
            &format!("store: {{ mode: redis, {redis}, password_encrypted: abc }} }}"),
            "password_encrypted",
        ),
        (
            &format!("store: {{ mode: redis, {redis}, pool_size: 0 }} }}"),
            "set it to 1 to 64",
        ),
        (
            &format!("store: {{ mode: redis, {redis}, timeout_ms: 0 }} }}"),
            "set it to 1 or more",
        ),
        (
            &format!("store: {{ mode: redis, {redis}, sise: 1 }} }}"),
            "sise",
        ),
        (
            &format!("store: {{ mode: redis, fallback_chain: [memory, memory], {redis} }} }}"),
            "twice",
        ),
        (
            "store: { mode: memory }\nnotifications: { adapters: [{ type: pager, enabled: true }] }",
            "pager",
        ),
        ("store: [", "line"),
    ] {
        let error = StoreConfig::from_text(text).unwrap_err().to_string();
        assert!(error.contains(part), "{part} in {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = StoreConfig::from_file("/nonexistent/valkyrie.yaml").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/valkyrie.yaml: "),
        "{error}"
    );
}

#[tokio::test]
async fn passwords_are_set_beside_the_file_and_never_shown() {
    let server = Server::start_at(Flavor::Valkey, free_port(), &["--requirepass", "canary-7"]);
    let text = format!(
        "store: {{ mode: valkey, valkey: {{ url: 'valkey://127.0.0.1:{}', max_retries: 0 }} }}",
        server.port
    );
    let mut config = StoreConfig::from_text(&text).unwrap();
    let without = HybridStore::new(config.clone()).await.unwrap();
    assert!(without.get("k").await.is_err());
    config.set_password("valkey", "canary-7").unwrap();
    assert!(config.set_password("redis", "x").is_err());
    assert!(!format!("{config:?}").contains("canary"));
    let store = HybridStore::new(config).await.unwrap();
    store.set("k", "v", None).await.unwrap();
    assert!(!format!("{store:?}").contains("canary"));
    // A URL is no place for one either.
    let text = text.replace("valkey://", "valkey://user:canary-7@");
    let config = StoreConfig::from_text(&text).unwrap();
    let error = HybridStore::new(config).await.unwrap_err().to_string();
    assert!(
        error.contains("does not belong into a URL") && !error.contains("canary"),
        "{error}"
    );
}
