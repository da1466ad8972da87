//! Paths of files in the project.

use crate::limits::NAME_BYTES_MAX;

/// Why a text is no path of a file in the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// It is an address, or a file of another repository.
    Remote,
    /// It begins at the root of the machine, or goes up.
    Outside,
    /// It has nothing in it, is too long, or has signs that no path needs.
    Unusable,
}

/// The path as files are found by: from the project's root, without `./`.
pub(super) fn normal(text: &str) -> Result<String, PathError> {
    if text.contains("://") || text.contains('@') {
        return Err(PathError::Remote);
    }
    if text.starts_with(['/', '~']) || text.contains('\\') {
        return Err(PathError::Outside);
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(PathError::Outside);
    }
    let path = parts.join("/");
    if path.is_empty() || path.len() > NAME_BYTES_MAX || path.chars().any(char::is_control) {
        return Err(PathError::Unusable);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_project() {
        let cases = [
            ("a/b.yaml", Ok("a/b.yaml")),
            ("./a//./b.yaml", Ok("a/b.yaml")),
            ("../a.yaml", Err(PathError::Outside)),
            ("a/../b.yaml", Err(PathError::Outside)),
            ("/etc/passwd", Err(PathError::Outside)),
            ("~/a.yaml", Err(PathError::Outside)),
            ("a\\b.yaml", Err(PathError::Outside)),
            ("https://example.org/a.yaml", Err(PathError::Remote)),
            ("org/repo/a.yaml@main", Err(PathError::Remote)),
            ("", Err(PathError::Unusable)),
            ("./", Err(PathError::Unusable)),
            ("a\nb", Err(PathError::Unusable)),
        ];
        for (text, expected) in cases {
            assert_eq!(normal(text), expected.map(str::to_owned), "{text:?}");
        }
    }
}
