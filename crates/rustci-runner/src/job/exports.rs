//! What a step sets for the steps after it: `$CI_ENV` and `$CI_PATH`.

use std::io;
use std::path::Path;

use super::outputs::{self, OutputError, PairsFile, Shown};
use super::step_files;
use crate::limits::PATH_FILE_BYTES_MAX;

/// Variables with which a program could be made to run other code in the steps after it, each with
/// what to use instead.
const REFUSED: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GCONV_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_EXEC_PATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GLIBC_TUNABLES",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "NODE_OPTIONS",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
    "TMPDIR",
];

/// Families of such variables, and of those that say what RustCI knows.
const REFUSED_PREFIXES: &[&str] = &["BASH_FUNC_", "CI_", "DYLD_", "LD_", "RUSTCI_"];

/// Why what a step set was refused. The step fails by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Pairs(#[from] OutputError),
    #[error("PATH cannot be set through $CI_ENV; write directories to $CI_PATH, one per line")]
    Path,
    #[error(
        "{name} cannot be set through $CI_ENV: it changes what later steps run or what they know of the run; set it with `env` in the pipeline file"
    )]
    Refused { name: String },
    #[error(
        "line {line} of $CI_PATH is {found:?}; write absolute directories without `:`, one per line"
    )]
    Directory { line: usize, found: String },
    #[error("$CI_PATH has more than {PATH_FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("$CI_PATH cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The variables that a step set, in order.
pub(crate) fn variables(
    path: &Path,
    shown: Shown<'_>,
) -> Result<Vec<(String, String)>, ExportError> {
    let variables = outputs::read(path, PairsFile::Env, shown)?;
    for (name, value) in &variables {
        let family = REFUSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if name == "PATH" {
            return Err(ExportError::Path);
        }
        if family
            || matches!(name.as_str(), "CI" | "RUSTCI")
            || REFUSED.contains(&name.as_str())
            || value.contains('\0')
        {
            return Err(ExportError::Refused { name: name.clone() });
        }
    }
    Ok(variables)
}

/// The directories that a step put on the `PATH`, the last one first, as they are searched.
pub(crate) fn directories(path: &Path, shown: Shown<'_>) -> Result<Vec<String>, ExportError> {
    let bytes = step_files::read(path, PATH_FILE_BYTES_MAX)?;
    if bytes.len() as u64 > PATH_FILE_BYTES_MAX {
        return Err(ExportError::TooLong);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut directories = Vec::new();
    for (line, directory) in (1..).zip(text.lines()).filter(|(_, text)| !text.is_empty()) {
        if !directory.starts_with('/') || directory.contains([':', '\0']) {
            let found = shown(directory);
            return Err(ExportError::Directory { line, found });
        }
        directories.insert(0, directory.to_owned());
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn refused(text: &str) -> String {
        variables(file(text).path(), &outputs::shorten)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn variables_are_read_like_outputs() {
        let set = variables(file("A=1\nB<<X\ntwo\nlines\nX\n").path(), &outputs::shorten).unwrap();
        let expected = [("A", "1"), ("B", "two\nlines")];
        assert_eq!(set, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(refused("no-dash=1").contains("name \"no-dash\" in line 1"));
    }

    #[test]
    fn variables_that_run_code_in_later_steps_are_refused_by_name() {
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "NODE_OPTIONS",
            "CI",
            "CI_JOB",
            "RUSTCI_JOB_MARK",
        ] {
            let message = refused(&format!("A=1\n{name}=x\n"));
            assert!(
                message.starts_with(&format!("{name} cannot be set")),
                "{message}"
            );
        }
        assert!(refused("PATH=/tmp").contains("$CI_PATH"));
        assert!(variables(file("CIRCLE=1\nLDX=2").path(), &outputs::shorten).is_ok());
    }

    #[test]
    fn directories_are_absolute_and_the_last_one_is_searched_first() {
        assert_eq!(
            directories(file("/a\n\n/b\n").path(), &outputs::shorten).unwrap(),
            ["/b", "/a"]
        );
        for bad in ["bin", "/a:/b"] {
            let error = directories(file(bad).path(), &outputs::shorten)
                .unwrap_err()
                .to_string();
            assert!(error.contains("absolute directories"), "{error}");
        }
    }
}
