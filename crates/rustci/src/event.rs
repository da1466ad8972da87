//! The event a run stands for: a name and what git says, or a whole event from a file.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustci_pipeline::EVENTS;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// A file of more bytes is no event; a run's body could not hold it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What happened, as far as a pipeline can see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RunEvent {
    /// Its name.
    pub(crate) name: String,
    /// The context `event`, with the name.
    pub(crate) event: Map<String, Value>,
    /// The context `git`.
    pub(crate) git: Map<String, Value>,
    /// Inputs of the file; the command line's come on top.
    pub(crate) inputs: Map<String, Value>,
    /// Paths that changed, if the file says so.
    pub(crate) changed_paths: Option<Vec<String>>,
}

/// What a file may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    event: Map<String, Value>,
    #[serde(default)]
    git: Option<Map<String, Value>>,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    changed_paths: Option<Vec<String>>,
}

impl RunEvent {
    /// The event that `text`, a name or a file, stands for in the project at `root`.
    ///
    /// # Errors
    /// [`Failure::Usage`] for what is neither, and for a file that is no event.
    pub(crate) fn of(text: &str, root: &Path) -> Result<Self, Failure> {
        if EVENTS.contains(&text) {
            return Self::named(text, root);
        }
        let path = Path::new(text);
        if path.is_file() {
            return Self::from_file(path, root);
        }
        Err(Failure::Usage {
            message: format!("{text:?} is neither an event nor a file with one"),
            hint: format!("the events are {}", EVENTS.join(", ")),
        })
    }

    fn named(name: &str, root: &Path) -> Result<Self, Failure> {
        let mut git = git_context(root);
        let mut event = Map::new();
        event.insert("name".to_owned(), json!(name));
        match name {
            "push" => event.extend(git.clone()),
            "tag" => {
                let tag = tag_at_head(root).ok_or_else(|| no_tag(root))?;
                git.insert("ref".to_owned(), json!(format!("refs/tags/{tag}")));
                git.insert("tag".to_owned(), json!(tag));
                git.remove("branch");
                event.extend(git.clone());
            }
            _ => {}
        }
        if matches!(name, "push" | "pull_request") {
            event.extend(message(root).map(|text| ("message".to_owned(), json!(text))));
        }
        Ok(Self {
            name: name.to_owned(),
            event,
            git,
            ..Self::default()
        })
    }

    fn from_file(path: &Path, root: &Path) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::Usage {
            message: format!("{} is no event: {what}", path.display()),
            hint: "it is an object with `event`, which has a `name`, and perhaps `git`, `inputs` \
                   and `changed_paths`"
                .to_owned(),
        };
        let reading = || format!("read {}", path.display());
        let size = fs::metadata(path).map_err(Failure::io(reading()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text = fs::read(path).map_err(Failure::io(reading()))?;
        let file: File = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let name = file.event.get("name").and_then(Value::as_str);
        let name = name.filter(|name| EVENTS.contains(name)).ok_or_else(|| {
            wrong(format!(
                "`event.name` has to be one of {}",
                EVENTS.join(", ")
            ))
        })?;
        Ok(Self {
            name: name.to_owned(),
            git: file.git.unwrap_or_else(|| git_context(root)),
            inputs: file.inputs,
            changed_paths: file.changed_paths,
            event: file.event,
        })
    }

    /// The message of the commit that the event is about, where forges write it.
    pub(crate) fn message(&self) -> Option<String> {
        let head = self.event.get("head_commit");
        let head = head.and_then(|commit| commit.get("message"));
        let message = self.event.get("message").or(head)?;
        message.as_str().map(str::to_owned)
    }

    /// The ref that filters of `on` are about: for a pull request the branch it goes into.
    pub(crate) fn git_ref(&self) -> Option<String> {
        let text = |map: &Map<String, Value>, key: &str| {
            map.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        match self.name.as_str() {
            "pull_request" => {
                let base = text(&self.event, "base")?;
                let full = base.starts_with("refs/");
                Some(if full {
                    base
                } else {
                    format!("refs/heads/{base}")
                })
            }
            _ => text(&self.git, "ref"),
        }
    }
}

/// What git says about `root`: `commit`, `ref`, `branch`; empty outside a repository.
fn git_context(root: &Path) -> Map<String, Value> {
    let mut context = Map::new();
    let text = git(root, &["rev-parse", "HEAD", "--symbolic-full-name", "HEAD"]);
    let text = text.unwrap_or_default();
    let mut lines = text.lines();
    if let Some(commit) = lines.next().filter(|commit| commit.len() >= 40) {
        context.insert("commit".to_owned(), json!(commit));
    }
    if let Some(name) = lines.next().filter(|name| name.starts_with("refs/")) {
        context.insert("ref".to_owned(), json!(name));
        let branch = name.strip_prefix("refs/heads/");
        context.extend(branch.map(|branch| ("branch".to_owned(), json!(branch))));
    }
    context
}

/// The message of the commit that is checked out, as much of it as anybody reads.
fn message(root: &Path) -> Option<String> {
    const CHARS_MAX: usize = 4_096;
    let message = git(root, &["log", "-1", "--format=%B"])?;
    let message: String = message.trim_end().chars().take(CHARS_MAX).collect();
    Some(message).filter(|text| !text.is_empty())
}

/// The tag on the commit that is checked out.
fn tag_at_head(root: &Path) -> Option<String> {
    let tag = git(root, &["describe", "--tags", "--exact-match", "HEAD"])?;
    Some(tag.trim().to_owned()).filter(|tag| !tag.is_empty())
}

fn no_tag(root: &Path) -> Failure {
    Failure::Usage {
        message: format!(
            "no tag is on the commit that is checked out in {}",
            root.display()
        ),
        hint: "check out a commit with a tag, or give --event a file with the event".to_owned(),
    }
}

/// What git prints; none outside a repository.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    if !root.ancestors().any(|dir| dir.join(".git").exists()) {
        return None;
    }
    let mut command = Command::new("git");
    command.args(args).current_dir(root);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RunEvent, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        fs::write(&path, text).unwrap();
        RunEvent::of(&path.display().to_string(), dir.path())
    }

    #[test]
    fn a_file_brings_the_whole_event() {
        let event = read(
            r#"{"event": {"name": "pull_request", "base": "main", "number": 7},
                "git": {"commit": "c0"}, "changed_paths": ["src/a.rs"]}"#,
        );
        let event = event.unwrap();
        assert_eq!(event.name, "pull_request");
        assert_eq!(event.git_ref().as_deref(), Some("refs/heads/main"));
        assert_eq!(event.event["number"], 7);
        assert_eq!(event.git["commit"], "c0");
        assert_eq!(event.changed_paths.unwrap(), ["src/a.rs"]);
    }

    #[test]
    fn what_is_no_event_says_what_one_is() {
        for (text, what) in [
            ("[]", "is no event"),
            ("{}", "missing field `event`"),
            (
                r#"{"event": {}}"#,
                "`event.name` has to be one of manual, push",
            ),
            (r#"{"event": {"name": "lunch"}}"#, "has to be one of"),
            (
                r#"{"event": {"name": "push"}, "gti": {}}"#,
                "unknown field `gti`",
            ),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(what), "{text}: {message}");
        }
        let error = RunEvent::of("pusch", Path::new("/")).unwrap_err();
        assert!(error.hint().unwrap().contains("push, pull_request"));
    }
}
