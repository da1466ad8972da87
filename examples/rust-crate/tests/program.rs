//! Runs the built program.

use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn prints_the_most_frequent_word_first() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tally"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"red fish blue fish")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().next(), Some("     2 fish"));
}
