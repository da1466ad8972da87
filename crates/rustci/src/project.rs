//! Finds the project and its pipeline files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustci_pipeline::limits::{FILE_BYTES_MAX, INCLUDE_BYTES_MAX, INCLUDE_FILES_MAX};
use rustci_pipeline::{Decoded, Diagnostic, Files};

use crate::failure::Failure;

/// A directory with pipelines in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// Absolute; the source snapshot is taken from here.
    pub(crate) root: PathBuf,
    /// The last component of `root`.
    pub(crate) name: String,
    /// Relative to `root`, sorted.
    pub(crate) files: Vec<PathBuf>,
}

impl Project {
    /// Finds the project that `path` is in, or the pipeline file that it names.
    ///
    /// Looks in `path` and in each directory above it, up to the first that holds `.git`.
    ///
    /// # Errors
    /// [`Failure::PathMissing`]; [`Failure::NoPipeline`] with all places looked at.
    pub(crate) fn find(path: &Path) -> Result<Self, Failure> {
        let path = absolute(path)?;
        if path.is_file() {
            return Ok(Self::of_file(&path));
        }
        let mut looked = Vec::new();
        for root in path.ancestors() {
            let files = pipeline_files(root, &mut looked);
            if !files.is_empty() {
                return Ok(Self::new(root, files));
            }
            if root.join(".git").exists() {
                break;
            }
        }
        Err(Failure::NoPipeline { looked })
    }

    /// Like [`find`](Self::find), without looking above `path`, and with no files if there are none.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let root = absolute(path)?;
        let files = pipeline_files(&root, &mut Vec::new());
        Ok(Self::new(&root, files))
    }

    /// Only `file`, given relative to the project, to the working directory or to `.rustci`.
    ///
    /// # Errors
    /// [`Failure::FileMissing`] with the files there are.
    pub(crate) fn only(mut self, file: &Path) -> Result<Self, Failure> {
        let places = [
            self.root.join(file),
            self.root.join(".rustci").join(file),
            file.to_owned(),
        ];
        let found = places.iter().filter(|place| place.is_file());
        let inside = found.filter_map(|place| {
            let place = place.canonicalize().ok()?;
            place.strip_prefix(&self.root).ok().map(Path::to_owned)
        });
        match inside.into_iter().next() {
            Some(file) => {
                self.files = vec![file];
                Ok(self)
            }
            None => Err(Failure::FileMissing {
                file: file.to_owned(),
                root: self.root,
                known: self.files,
            }),
        }
    }

    /// The project with its files cut down to `--file`, if that was given.
    pub(crate) fn find_with(path: &Path, file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            None => Self::find(path),
            Some(file) => match Self::find(path) {
                Err(Failure::NoPipeline { .. }) => Self::at(path)?.only(file),
                other => other?.only(file),
            },
        }
    }

    /// The texts of all files that the pipeline in `text` includes, those that they include
    /// themselves among them, and where one of them is no text. Only files inside of the project are
    /// read; one that is not there is left out, and told with everything else that is wrong with the
    /// pipeline.
    pub(crate) fn included(&self, text: &str) -> (Files, Vec<Diagnostic>) {
        let mut files = Files::new();
        let mut errors = Vec::new();
        let mut bytes = 0;
        let mut open = rustci_pipeline::included(text);
        while let Some(path) = open.pop() {
            let full = files.len() > INCLUDE_FILES_MAX || bytes > INCLUDE_BYTES_MAX;
            if full || files.contains_key(&path) {
                continue;
            }
            if let Some(Decoded { text, error }) = self.text_inside(&path) {
                errors.extend(error);
                bytes += text.len();
                open.extend(rustci_pipeline::included(&text));
                files.insert(path, text);
            }
        }
        (files, errors)
    }

    /// The text of a file that lies in the project, links followed.
    fn text_inside(&self, path: &str) -> Option<Decoded> {
        let place = self.root.join(path).canonicalize().ok()?;
        let inside = place.starts_with(&self.root) && place.is_file();
        // A file that is too large is read up to where the parser refuses it.
        let file = inside.then(|| std::fs::File::open(place).ok())??;
        let mut bytes = Vec::new();
        let limit = u64::try_from(FILE_BYTES_MAX + 1).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        let cut = bytes.len() > FILE_BYTES_MAX;
        let mut decoded = rustci_pipeline::decode(path, bytes);
        // Where it is cut, a character may be, too.
        decoded.error = decoded.error.filter(|_| !cut);
        Some(decoded)
    }

    /// Whether a file is one of those that a project's pipelines are found by.
    pub(crate) fn finds(&self, file: &Path) -> bool {
        pipeline_files(&self.root, &mut Vec::new())
            .iter()
            .any(|found| found == file)
    }

    fn new(root: &Path, files: Vec<PathBuf>) -> Self {
        let name = root
            .file_name()
            .map_or_else(|| "root".into(), |name| name.to_string_lossy());
        Self {
            root: root.to_owned(),
            name: name.into_owned(),
            files,
        }
    }

    fn of_file(path: &Path) -> Self {
        let parent = path.parent().unwrap_or(path);
        let is_own = |directory: &&Path| directory.file_name().is_some_and(|it| it == ".rustci");
        let own = parent.ancestors().find(is_own);
        let root = own.and_then(Path::parent).unwrap_or(parent);
        let file = path.strip_prefix(root).unwrap_or(path);
        Self::new(root, vec![file.to_owned()])
    }
}

/// Every pipeline file below `path`, projects inside projects included; `path` itself if it is one.
///
/// # Errors
/// [`Failure::PathMissing`].
pub(crate) fn all_below(path: &Path) -> Result<Vec<Project>, Failure> {
    let path = absolute(path)?;
    if path.is_file() {
        return Ok(vec![Project::of_file(&path)]);
    }
    let walk = ignore::WalkBuilder::new(&path)
        .require_git(false)
        .sort_by_file_path(Path::cmp)
        .build();
    let directories = walk
        .flatten()
        .filter(|entry| entry.file_type().is_some_and(|t| t.is_dir()));
    let projects = directories.map(|entry| {
        let files = pipeline_files(entry.path(), &mut Vec::new());
        Project::new(entry.path(), files)
    });
    Ok(projects
        .filter(|project| !project.files.is_empty())
        .collect())
}

/// The pipeline files of `root`; the places looked at are appended to `looked`.
fn pipeline_files(root: &Path, looked: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let directory = root.join(".rustci");
    looked.push(directory.join("*.yaml"));
    looked.push(root.join(".rustci.yaml"));
    let entries = std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_yaml(path))
        .filter_map(|path| path.strip_prefix(root).ok().map(Path::to_owned))
        .collect();
    let single = [".rustci.yaml", ".rustci.yml"].map(PathBuf::from);
    files.extend(single.into_iter().filter(|file| root.join(file).is_file()));
    files.sort();
    files
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|_| Failure::PathMissing {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "jobs: {}").unwrap();
        }
        dir
    }

    fn names(project: &Project) -> Vec<&str> {
        project
            .files
            .iter()
            .map(|file| file.to_str().unwrap())
            .collect()
    }

    #[test]
    fn looks_upwards_and_sorts() {
        let dir = tree(&[
            ".rustci/b.yml",
            ".rustci/a.yaml",
            ".rustci/notes.txt",
            "deep/er/x",
        ]);
        let project = Project::find(&dir.path().join("deep/er")).unwrap();
        assert_eq!(names(&project), [".rustci/a.yaml", ".rustci/b.yml"]);
        assert_eq!(project.root, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn stops_at_the_repository_and_says_where_it_looked() {
        let dir = tree(&[".rustci.yaml", "inner/.git/HEAD"]);
        let error = Project::find(&dir.path().join("inner")).unwrap_err();
        let Failure::NoPipeline { looked } = error else {
            panic!("{error}")
        };
        assert_eq!(looked.len(), 2);
        assert!(looked[1].ends_with("inner/.rustci.yaml"));
    }

    #[test]
    fn a_file_stands_for_its_project() {
        let dir = tree(&[".rustci/a.yaml", ".rustci/b.yaml"]);
        let project = Project::find(&dir.path().join(".rustci/b.yaml")).unwrap();
        assert_eq!(names(&project), [".rustci/b.yaml"]);
        assert_eq!(project.root, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn one_file_is_found_by_its_short_name() {
        let dir = tree(&[".rustci/a.yaml", ".rustci/b.yaml"]);
        let project = Project::find_with(dir.path(), Some(Path::new("b.yaml"))).unwrap();
        assert_eq!(names(&project), [".rustci/b.yaml"]);
        let missing = Project::find_with(dir.path(), Some(Path::new("c.yaml"))).unwrap_err();
        assert!(matches!(missing, Failure::FileMissing { known, .. } if known.len() == 2));
    }

    #[test]
    fn included_files_are_read_inside_of_the_project_only() {
        let dir = tree(&["p/.rustci.yaml", "outside.yaml"]);
        let root = dir.path().join("p");
        let files = [
            ("one.yaml", "include: [{ local: two.yaml }, one.yaml]"),
            ("two.yaml", "jobs: { a: { uses: sub/three.yaml#x } }"),
            ("sub/three.yaml", "env: {}"),
        ];
        fs::create_dir(root.join("sub")).unwrap();
        for (name, text) in files {
            fs::write(root.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("../outside.yaml", root.join("link.yaml")).unwrap();
        std::os::unix::fs::symlink("one.yaml", root.join("inner.yaml")).unwrap();
        let project = Project::at(&root).unwrap();
        let text = "include: [one.yaml, link.yaml, inner.yaml, ../outside.yaml, missing.yaml]";
        let (files, errors) = project.included(text);
        assert_eq!(errors, []);
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["inner.yaml", "one.yaml", "sub/three.yaml", "two.yaml"]
        );
    }

    #[test]
    fn below_a_directory_all_projects_are_found() {
        let dir = tree(&["a/.rustci.yaml", "b/c/.rustci/ci.yaml", "d/readme"]);
        let found = all_below(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|project| project.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
    }
}
