//! Every example runs by itself, ends, and says what it is there to show.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::env;
use std::process::Command;

/// Where cargo puts the examples, which it builds for the tests of a package.
fn run(example: &str) -> String {
    let test = env::current_exe().unwrap();
    let target = test.parent().unwrap().parent().unwrap();
    let program = target.join("examples").join(example);
    let output = Command::new(&program).output();
    let output = output.unwrap_or_else(|error| {
        let place = program.display();
        panic!("{place}: {error}; run all tests of the package, so that its examples are built")
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {text}{errors}");
    text
}

#[test]
fn every_example_ends_and_shows_what_it_is_for() {
    for (example, shown) in [
        ("ways", "count: 2 words, 9 letters"),
        ("typed", "Hello Ann and Ben"),
        ("json", "cents: 750 } in EUR"),
        ("middleware", "refused: 501 overloaded"),
        ("deadlines", "the handler was dropped"),
        ("chat", "ann hears: ann: hello from ann"),
        ("files", "stored after 2 connections, the same: true"),
        ("shutdown", "the connection: closed in order"),
    ] {
        let text = run(example);
        assert!(
            text.contains(shown),
            "{example} does not say {shown:?}: {text}"
        );
    }
}
