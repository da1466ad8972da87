//! From the `shell` of a step to the command that runs its script.

use std::path::{Path, PathBuf};

/// The step cannot be run with the shell it asks for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ShellError {
    #[error("{program} is not on this runner's PATH; install it or give the step another shell")]
    NotFound { program: String },
    #[error("shell {shell:?} has no {{0}} for the script; write for example `perl {{0}}`")]
    NoPlace { shell: String },
}

/// A shell chosen for a step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shell {
    program: PathBuf,
    args: Vec<String>,
    /// Ending of the script file; some interpreters care.
    pub(crate) extension: &'static str,
}

/// With `-c` modules are found in the working directory, as in a terminal, not beside the script.
const PYTHON: &[&str] = &[
    "-c",
    "import sys; del sys.argv[0]; \
     exec(compile(open(sys.argv[0], 'rb').read(), sys.argv[0], 'exec'))",
    "{0}",
];

const BASH: &[&str] = &["--noprofile", "--norc", "-eo", "pipefail", "{0}"];

impl Shell {
    /// Chooses by name (`bash`, `sh`, `python`, a command line with `{0}`); an empty name is bash
    /// where there is one, else sh. All stop at the first failing command.
    ///
    /// `path` is the step's own `PATH`.
    pub(crate) fn choose(name: &str, path: &str) -> Result<Self, ShellError> {
        match name.trim() {
            "" => Self::of(path, "bash", BASH, "sh")
                .or_else(|_| Self::of(path, "sh", &["-e", "{0}"], "sh")),
            "bash" => Self::of(path, "bash", BASH, "sh"),
            "sh" => Self::of(path, "sh", &["-e", "{0}"], "sh"),
            "python" => Self::of(path, "python3", PYTHON, "py")
                .or_else(|_| Self::of(path, "python", PYTHON, "py")),
            custom => Self::custom(custom, path),
        }
    }

    /// The program and its arguments for one script.
    pub(crate) fn command(&self, script: &Path) -> (PathBuf, Vec<String>) {
        let script = script.to_string_lossy();
        (
            self.program.clone(),
            self.args
                .iter()
                .map(|arg| arg.replace("{0}", &script))
                .collect(),
        )
    }

    fn custom(line: &str, path: &str) -> Result<Self, ShellError> {
        if !line.contains("{0}") {
            return Err(ShellError::NoPlace {
                shell: line.to_owned(),
            });
        }
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        let args: Vec<&str> = words.collect();
        Self::of(path, program, &args, "sh")
    }

    fn of(
        path: &str,
        program: &str,
        args: &[&str],
        extension: &'static str,
    ) -> Result<Self, ShellError> {
        let found = find(program, path).ok_or_else(|| ShellError::NotFound {
            program: program.to_owned(),
        })?;
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Ok(Self {
            program: found,
            args,
            extension,
        })
    }
}

/// Looks a program up as a shell would.
pub(crate) fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    path.split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(dir).join(program))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A directory with programs of these names.
    fn programs(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let file = dir.path().join(name);
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    }

    fn command(names: &[&str], shell: &str) -> Result<String, ShellError> {
        let dir = programs(names);
        let shell = Shell::choose(shell, dir.path().to_str().unwrap())?;
        let (program, args) = shell.command(Path::new("/s"));
        Ok(format!(
            "{} {}",
            program.file_name().unwrap().to_str().unwrap(),
            args.join(" ")
        ))
    }

    #[test]
    fn the_default_is_bash_where_there_is_one() {
        assert_eq!(
            command(&["bash", "sh"], "").unwrap(),
            "bash --noprofile --norc -eo pipefail /s"
        );
        assert_eq!(command(&["sh"], "").unwrap(), "sh -e /s");
    }

    #[test]
    fn named_and_custom_shells_are_looked_up() {
        assert!(
            command(&["python3"], "python")
                .unwrap()
                .starts_with("python3 -c ")
        );
        assert_eq!(
            command(&["perl"], "perl -w {0} --").unwrap(),
            "perl -w /s --"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = command(&[], "bash").unwrap_err().to_string();
        assert!(
            missing.starts_with("bash is not on this runner's PATH"),
            "{missing}"
        );
        assert!(matches!(
            command(&["perl"], "perl"),
            Err(ShellError::NoPlace { .. })
        ));
    }
}
