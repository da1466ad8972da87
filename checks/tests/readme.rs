//! Every command of the README runs as written, all but `make test`, which runs this test.

#![cfg(test)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Commands in `console` blocks: lines after `$ `, with `\` joining the next line.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut inside = false;
    let mut open = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
            open = false;
        } else if inside && (open || line.starts_with("$ ")) {
            let part = line.strip_prefix("$ ").unwrap_or(line);
            match part.strip_suffix('\\') {
                _ if open => commands
                    .last_mut()
                    .unwrap()
                    .push_str(part.trim_end_matches('\\')),
                Some(head) => commands.push(head.to_owned()),
                None => commands.push(part.to_owned()),
            }
            open = part.ends_with('\\');
        }
    }
    commands
}

/// Where `make run` leaves the program.
fn release() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("release")
}

#[test]
fn every_command_of_the_readme_runs() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands = commands(&text);
    assert!(
        commands.iter().any(|command| command == "make run"),
        "{commands:?}"
    );
    assert!(
        commands.iter().any(|command| command == "make test"),
        "{commands:?}"
    );
    let scratch = std::env::temp_dir().join(format!("readme-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let path = format!("{}:{}", release().display(), std::env::var("PATH").unwrap());
    for command in commands.iter().filter(|command| *command != "make test") {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(root())
            .env("PATH", &path)
            .env("XDG_STATE_HOME", &scratch)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "`{command}` ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::remove_dir_all(&scratch).unwrap();
}

#[test]
fn links_between_documents_lead_somewhere() {
    let list = Command::new("git")
        .args(["ls-files", "*.md"])
        .current_dir(root())
        .output()
        .unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines() {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            let path = root().join(name).parent().unwrap().join(target);
            assert!(
                path.exists(),
                "{name} links to {target}, which is not there"
            );
        }
    }
}
