//! What is generated, to the letter.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::fs;

use expect_test::expect_file;
use valkyrie_build::{Builder, Error, compile};

fn generate(builder: Builder, proto: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_owned();
    let builder = builder.messages(|config| {
        config.out_dir(&out);
    });
    builder.compile(&[proto], &["tests/proto"]).unwrap();
    fs::read_to_string(dir.path().join("demo.greeter.rs")).unwrap()
}

#[test]
fn a_service_becomes_a_trait_a_service_and_a_client() {
    let builder = Builder::default().one_way("demo.greeter.Greeter.Leave");
    let code = generate(builder, "tests/proto/greeter.proto");
    expect_file!["snapshot/greeter.rs"].assert_eq(&code);
}

#[test]
fn a_file_that_is_not_there_or_not_valid_is_named() {
    let error = compile(&["tests/proto/none.proto"], &["tests/proto"]).unwrap_err();
    assert!(matches!(error, Error::Proto(_)));
    assert!(error.to_string().contains("none.proto"), "{error}");
}
