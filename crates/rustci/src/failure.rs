//! Everything that can keep a command from its work, and what to do about it.

use std::path::{Path, PathBuf};

use rustci_server::token::TOKEN_FILE;

use crate::dirs;

/// Why a command could not do its work. The run's own failure is not one of these.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The caller named a path that does not exist.
    #[error("{} does not exist", path.display())]
    PathMissing { path: PathBuf },
    /// There is no pipeline where one was looked for.
    #[error("no pipeline file found; looked for\n{}", listed(looked))]
    NoPipeline { looked: Vec<PathBuf> },
    /// `--file` names nothing.
    #[error("pipeline file {} does not exist in {}", file.display(), root.display())]
    FileMissing {
        file: PathBuf,
        root: PathBuf,
        known: Vec<PathBuf>,
    },
    /// Pipeline files have errors, which were printed already.
    #[error("{errors} {} in {files}{more}", plural(*errors, "error"))]
    InvalidFiles {
        errors: usize,
        files: String,
        more: String,
    },
    /// Pipeline files have warnings, which were printed already, and those were denied.
    #[error("{warnings} {}, and --deny-warnings was given", plural(*warnings, "warning"))]
    WarningsDenied { warnings: usize },
    /// Arguments that do not fit together or the project.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// The place looked at has no such run.
    #[error("run {run} is not known {place}")]
    UnknownRun {
        run: u64,
        place: String,
        hint: String,
    },
    /// The place looked at has no runs.
    #[error("no runs yet {place}")]
    NoRuns {
        place: String,
        /// What `rustci run` needs to get there; empty for this machine.
        server: String,
    },
    /// The run or pipeline has no such job.
    #[error("{subject} has no job `{job}`")]
    UnknownJob {
        subject: String,
        job: String,
        known: Vec<String>,
    },
    /// The server understood the request and refused it.
    #[error("{message}")]
    Refused {
        message: String,
        hint: Option<String>,
    },
    /// The server wants a token, or another one.
    #[error("{server} {}", shown.what())]
    Unauthorized { server: String, shown: Shown },
    /// Nobody answers there.
    #[error("cannot reach {server}: {cause}")]
    Unreachable { server: String, cause: String },
    /// The connection to the server broke and did not come back.
    #[error("lost the connection to {server}: {cause}")]
    Interrupted {
        server: String,
        /// What other commands need to get there.
        arguments: String,
        cause: String,
    },
    /// Something answers there, but not a RustCI server of this version.
    #[error("{server} sent an answer that is not understood: {cause}")]
    BadAnswer { server: String, cause: String },
    /// The server reports a fault of its own.
    #[error("{server} failed: {message}")]
    ServerError {
        server: String,
        message: String,
        hint: Option<String>,
    },
    /// The file system or a process.
    #[error("cannot {doing}: {cause}")]
    Io {
        doing: String,
        cause: std::io::Error,
    },
    /// The directory for runs and logs cannot be made.
    #[error("cannot create {}: {cause}", path.display())]
    DataDir {
        path: PathBuf,
        cause: std::io::Error,
    },
    /// Nobody reads standard output any more, as in `rustci runs logs | head`.
    #[error("standard output was closed")]
    OutputClosed,
    /// A second Ctrl-C: nothing is waited for any more.
    #[error("interrupted")]
    Abandoned,
    /// The embedded server or runner could not start or ended early.
    #[error("{what}: {cause}")]
    Engine { what: &'static str, cause: String },
}

/// What a server was shown that let nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A token that it does not take.
    Refused,
    /// No token: none was found.
    Nothing,
}

impl Shown {
    fn what(self) -> &'static str {
        match self {
            Self::Refused => "refused the token",
            Self::Nothing => "wants a token, and none was found",
        }
    }

    fn hint(self) -> String {
        const KEPT: &str = "the token is in the file `token` of the server's data directory";
        match self {
            Self::Refused => format!("pass --token or set RUSTCI_TOKEN; {KEPT}"),
            Self::Nothing => {
                let file = dirs::server_data(None).join(TOKEN_FILE);
                format!(
                    "looked at --token, the context, RUSTCI_TOKEN and, for a server on this \
                     machine, {}; {KEPT}",
                    dirs::tilde(&file)
                )
            }
        }
    }
}

impl Failure {
    /// Wraps an input or output error; `doing` continues "cannot ...".
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }

    /// Wraps an error of the embedded server or runner.
    pub(crate) fn engine(what: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::Engine {
            what,
            cause: cause.to_string(),
        }
    }

    /// The next thing to try, where there is one.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoPipeline { .. } => Some(
                "write .rustci.yaml with at least\n        \
                 jobs: { hello: { steps: [{ run: echo hello }] } }"
                    .to_owned(),
            ),
            Self::FileMissing { known, .. } => Some(format!("the project has {}", one_line(known))),
            Self::Usage { hint, .. } | Self::UnknownRun { hint, .. } => Some(hint.clone()),
            Self::DataDir { .. } => Some("--data-dir puts runs and logs elsewhere".to_owned()),
            Self::NoRuns { server, .. } => Some(format!("`rustci run{server}` makes one")),
            Self::UnknownJob { job, known, .. } => Some(name_hint(job, known, "its jobs are")),
            Self::Refused { hint, .. } | Self::ServerError { hint, .. } => hint.clone(),
            Self::Unauthorized { shown, .. } => Some(shown.hint()),
            Self::Unreachable { .. } => {
                Some("is `rustci serve` running there? --server or RUSTCI_SERVER say where".into())
            }
            Self::Interrupted { arguments, .. } => Some(format!(
                "the run goes on there; `rustci runs watch{arguments}` picks it up again"
            )),
            Self::BadAnswer { .. } => Some("compare `rustci --version` on both sides".to_owned()),
            Self::WarningsDenied { .. } => {
                Some("mend them, or allow one where it stands: `# rustci: allow CODE`".to_owned())
            }
            Self::PathMissing { .. }
            | Self::InvalidFiles { .. }
            | Self::OutputClosed
            | Self::Abandoned
            | Self::Io { .. }
            | Self::Engine { .. } => None,
        }
    }
}

/// `word`, with an s unless `count` is 1.
pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let lines: Vec<String> = paths
        .iter()
        .map(|path| format!("         {}", path.display()))
        .collect();
    lines.join("\n")
}

fn one_line(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path: &PathBuf| Path::display(path).to_string())
        .collect();
    if names.is_empty() {
        "no pipeline file".to_owned()
    } else {
        names.join(", ")
    }
}

/// The name that was probably meant by `given`, or all of them behind `all`.
pub(crate) fn name_hint(given: &str, known: &[String], all: &str) -> String {
    let close = known.iter().min_by_key(|name| distance(given, name));
    match close.filter(|name| distance(given, name) <= name.chars().count() / 3 + 1) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{all} {}", known.join(", ")),
    }
}

/// Edit distance, for names of a few dozen characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(ca != *cb))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("build", "build"), 0);
        assert_eq!(distance("biuld", "build"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("test", "tests"), 1);
    }

    #[test]
    fn an_unknown_job_names_the_nearest_or_all() {
        let known = ["build".to_owned(), "test (stable)".to_owned()];
        assert_eq!(
            name_hint("biuld", &known, "its jobs are"),
            "did you mean `build`?"
        );
        assert_eq!(
            name_hint("zz", &known, "its jobs are"),
            "its jobs are build, test (stable)"
        );
    }
}
