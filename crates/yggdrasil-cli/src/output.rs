//! What is printed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::failure::Failure;

pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Unread,
            _ => Failure::System {
                what: "write to standard output",
                error,
            },
        })
}

/// Says on standard error what went wrong and what to do.
pub(crate) fn complain(failure: &Failure) {
    if matches!(failure, Failure::Unread) {
        return;
    }
    let hint = failure
        .hint()
        .map_or(String::new(), |hint| format!("hint: {hint}\n"));
    // There is nowhere to complain about a closed standard error.
    let _ = write!(io::stderr(), "error: {failure}\n{hint}");
}

/// Every command of servers, by what it is about.
pub(crate) fn commands() -> Result<(), Failure> {
    let mut all: Vec<_> = yggdrasil_service::commands().collect();
    all.sort_by_key(|command| (command.group, command.name));
    let mut text = String::new();
    let mut group = "";
    for command in all {
        if command.group != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            group = command.group;
            text += &format!("{gap}{group}\n");
        }
        text += &format!("  {:<17}{}\n", command.name, command.summary);
    }
    print(text.as_bytes())
}

/// The password in a file that nobody else can read.
pub(crate) fn password(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |cause: String| Failure::password(path, cause);
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let cause = format!("others can read it (mode {mode:o}); set it to 600");
        return Err(wrong(cause));
    }
    let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let password = text.trim_ascii_end();
    match password {
        [] => Err(wrong("there is no password in it".to_owned())),
        password => Ok(password.to_vec()),
    }
}
