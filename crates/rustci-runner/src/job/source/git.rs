//! Fetches one commit by git, without credentials and without asking anybody.

use std::path::Path;
use std::process::Command;

use rustci_pipeline::v1;
use valkyrie_frame::LogChannel;

use super::SourceError;
use crate::job::environment::Environment;
use crate::job::shell;
use crate::job::supervisor::{ExitStatus, JOB_STEP, Supervisor};

/// Fetches `source.commit` and checks it out in `workspace`.
///
/// First the commit alone, which every modern server allows; then the ref it was found on, with its
/// history, for those that don't.
pub(super) fn fetch(
    source: &v1::Git,
    workspace: &Path,
    env: &Environment,
    supervisor: &mut Supervisor,
) -> Result<(), SourceError> {
    check(source)?;
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let program = shell::find("git", path).ok_or_else(|| {
        SourceError::Git("git is not on this runner's PATH; install it".to_owned())
    })?;
    let mut git = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["-c", "protocol.ext.allow=never", "-c", "credential.helper="])
            .args(args);
        command
            .current_dir(workspace)
            .env_clear()
            .envs(env)
            .envs(SETTINGS);
        run(&mut command, supervisor)
    };
    if !git(&["init", "--quiet"])? {
        return refused("the workspace cannot be made a repository".to_owned());
    }
    let (url, commit) = (source.url.as_str(), source.commit.as_str());
    let fetch = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--depth",
        "1",
        "--",
        url,
        commit,
    ];
    if !git(&fetch)? {
        let spec = if source.r#ref.is_empty() {
            "HEAD"
        } else {
            source.r#ref.as_str()
        };
        if !git(&["fetch", "--quiet", "--no-tags", "--", url, spec])? {
            return refused(format!(
                "neither {commit} nor {spec} can be fetched from {url}"
            ));
        }
    }
    if !git(&["checkout", "--quiet", "--force", "--detach", commit])? {
        return refused(format!("{commit} is not in what {url} gave"));
    }
    Ok(())
}

fn refused(text: String) -> Result<(), SourceError> {
    Err(SourceError::Git(text))
}

const SETTINGS: [(&str, &str); 4] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ASKPASS", "/bin/false"),
];

/// Values that git could take for options, or that are not what they claim to be.
fn check(source: &v1::Git) -> Result<(), SourceError> {
    let hex = source.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || !matches!(source.commit.len(), 40 | 64) {
        let text = format!(
            "{:?} is not a full commit id of 40 or 64 hex digits",
            source.commit
        );
        return Err(SourceError::Git(text));
    }
    if source.url.is_empty() || source.url.starts_with('-') || source.r#ref.starts_with('-') {
        let text = format!(
            "{:?} and {:?} cannot be a URL and a ref",
            source.url, source.r#ref
        );
        return Err(SourceError::Git(text));
    }
    Ok(())
}

fn run(command: &mut Command, supervisor: &mut Supervisor) -> Result<bool, SourceError> {
    let ended = supervisor.run(command, JOB_STEP, None)?;
    if supervisor.stopped().is_some() {
        return Err(SourceError::Stopped);
    }
    if let ExitStatus::Signal(signal) = ended.status {
        let text = format!("git was ended by signal {signal}");
        supervisor.log.say(JOB_STEP, LogChannel::SYSTEM, &text);
    }
    Ok(ended.status == ExitStatus::Code(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_could_take_for_an_option_is_refused() {
        let git = |url: &str, commit: &str, r#ref: &str| v1::Git {
            url: url.to_owned(),
            commit: commit.to_owned(),
            r#ref: r#ref.to_owned(),
        };
        let commit = "0123456789012345678901234567890123456789";
        assert!(check(&git("https://example.org/x.git", commit, "refs/heads/main")).is_ok());
        assert!(check(&git("--upload-pack=evil", commit, "")).is_err());
        assert!(check(&git("https://example.org/x.git", commit, "--all")).is_err());
        assert!(check(&git("https://example.org/x.git", "HEAD", "")).is_err());
        assert!(check(&git("https://example.org/x.git", "--exec=x", "")).is_err());
    }
}
