//! Which commit a ref stands for, as the remote repository says.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::api::ApiError;
use crate::api::view::PipelineSource;

/// How long a remote repository may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer that are read; what we ask for has a few lines.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A commit and the full ref that it was found under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) commit: String,
    pub(crate) reference: String,
}

/// Asks the repository of a source.
///
/// # Errors
/// [`ApiError::SourceUnreachable`] when it does not answer, or has no such ref.
pub(crate) async fn resolve(source: &PipelineSource) -> Result<Found, ApiError> {
    if is_commit(&source.reference) {
        return Ok(Found {
            commit: source.reference.clone(),
            reference: String::new(),
        });
    }
    let asked = timeout(PATIENCE, ask(source)).await;
    let unreachable = |why: String| ApiError::SourceUnreachable {
        url: source.url.clone(),
        why,
    };
    let answer = asked
        .map_err(|_| unreachable(format!("it did not answer within {} s", PATIENCE.as_secs())))?;
    let answer = answer.map_err(unreachable)?;
    choose(&answer, &source.reference)
        .ok_or_else(|| unreachable(format!("it has no branch or tag `{}`", source.reference)))
}

async fn ask(source: &PipelineSource) -> Result<String, String> {
    let mut git = Command::new("git")
        .args(["ls-remote", "--", &source.url])
        .args([
            source.reference.clone(),
            format!("{}^{{}}", source.reference),
        ])
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:git:file")
        .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("git cannot be started here: {error}"))?;
    let answer = text(git.stdout.take()).await?;
    let said = text(git.stderr.take()).await?;
    let status = git.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(answer);
    }
    Err(reason(&said).to_owned())
}

/// What went wrong, among all that git says: the first thing that it calls fatal. What follows is
/// advice, or what came of it.
fn reason(said: &str) -> &str {
    let mut fatal = said.lines().filter_map(|line| line.strip_prefix("fatal: "));
    let last = || said.lines().rfind(|line| !line.trim().is_empty());
    fatal.next().or_else(last).unwrap_or("git failed").trim()
}

/// What a pipe says, up to the limit.
async fn text(pipe: Option<impl AsyncRead + Unpin>) -> Result<String, String> {
    let mut text = String::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(ANSWER_BYTES_MAX);
        let read = pipe.read_to_string(&mut text).await;
        read.map_err(|error| error.to_string())?;
    }
    Ok(text)
}

/// The best of the refs that were found: a branch, then a tag (the commit that it is about), then
/// what has exactly that name.
fn choose(answer: &str, name: &str) -> Option<Found> {
    let refs = answer.lines().filter_map(|line| line.split_once('\t'));
    let refs: Vec<(&str, &str)> = refs.filter(|(commit, _)| is_commit(commit)).collect();
    let bare = name.strip_prefix("refs/heads/").unwrap_or(name);
    let wanted = [
        format!("refs/heads/{bare}"),
        format!("refs/tags/{name}^{{}}"),
        format!("refs/tags/{name}"),
        format!("{name}^{{}}"),
        name.to_owned(),
    ];
    let found = wanted
        .iter()
        .find_map(|wanted| refs.iter().find(|(_, found)| found == wanted));
    found.map(|(commit, reference)| Found {
        commit: (*commit).to_owned(),
        reference: reference.trim_end_matches("^{}").to_owned(),
    })
}

/// Whether a text is the full id of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_git_calls_fatal() {
        let said = "Cloning...\nssh: connect to host x port 22: refused\n\
            fatal: Could not read from remote repository.\n\n\
            Please make sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(reason(said), "Could not read from remote repository.");
        assert_eq!(reason("remote: no\nerror: 403\n\n"), "error: 403");
        assert_eq!(reason(""), "git failed");
    }

    #[test]
    fn a_branch_comes_before_a_tag_and_a_tag_is_its_commit() {
        let [one, two, three] = ["1", "2", "3"].map(|digit| digit.repeat(40));
        let answer = format!(
            "{one}\trefs/tags/v1\n{two}\trefs/tags/v1^{{}}\n{three}\trefs/heads/v1\nrubbish\n"
        );
        let found = choose(&answer, "v1").unwrap();
        assert_eq!(
            (found.commit, found.reference.as_str()),
            (three.clone(), "refs/heads/v1")
        );
        let found = choose(&answer, "refs/tags/v1").unwrap();
        assert_eq!(
            (found.commit, found.reference.as_str()),
            (two, "refs/tags/v1")
        );
        assert_eq!(choose(&answer, "refs/heads/v1").unwrap().commit, three);
        assert_eq!(choose(&answer, "main"), None);
    }
}
