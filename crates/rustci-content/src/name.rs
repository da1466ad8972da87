//! Which paths a tree may hold.
//!
//! A tree may be unpacked on any system by any program, and its names are printed on terminals. So a
//! path is relative, without `.`, `..` and empty parts, also where a system takes `\` for `/`; it is
//! text; and in an artifact it has no characters that steer a terminal or turn text around.

use crate::limits::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::manifest::TreeKind;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no name in it.
    #[error("is empty")]
    Empty,
    /// Over [`PATH_BYTES_MAX`] bytes, a name over [`NAME_BYTES_MAX`].
    #[error("is too long; a path has at most {PATH_BYTES_MAX} bytes, a name {NAME_BYTES_MAX}")]
    TooLong,
    /// Over [`DEPTH_MAX`] parts.
    #[error("lies deeper than {DEPTH_MAX} directories")]
    TooDeep,
    /// It begins at a root, or goes up.
    #[error("leaves its tree; paths are relative and have no `.`, `..` or empty parts")]
    Outside,
    /// A NUL.
    #[error("holds a NUL character")]
    Nul,
    /// Only refused in artifacts.
    #[error("holds a control character or one that turns the direction of text; rename the file")]
    Control,
    /// Only refused in caches.
    #[error("lies neither in the workspace nor in the home directory")]
    Place,
}

/// Checks one path of a tree.
///
/// # Errors
/// [`NameError`].
pub(crate) fn check(kind: TreeKind, path: &str) -> Result<(), NameError> {
    if path.is_empty() {
        return Err(NameError::Empty);
    }
    if path.len() > PATH_BYTES_MAX || path.split('/').any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(NameError::TooLong);
    }
    if path.split('/').count() > DEPTH_MAX {
        return Err(NameError::TooDeep);
    }
    if path.contains('\0') {
        return Err(NameError::Nul);
    }
    let leaves = |name: &str| matches!(name, "" | "." | "..");
    let backwards = path.split(['/', '\\']).any(|name| name == "..");
    if path.split('/').any(leaves) || backwards || path.starts_with('\\') || has_drive(path) {
        return Err(NameError::Outside);
    }
    match kind {
        TreeKind::Artifact if path.chars().any(is_unsafe) => Err(NameError::Control),
        TreeKind::Cache if !in_a_place(path) => Err(NameError::Place),
        _ => Ok(()),
    }
}

/// `C:` in front means another disk where there are such things.
fn has_drive(path: &str) -> bool {
    let mut chars = path.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.next() == Some(':')
        && matches!(chars.next(), None | Some('/' | '\\'))
}

/// Whether a character steers a terminal or the direction of the text around it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}'
        )
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Caches say in front which directory they mean.
fn in_a_place(path: &str) -> bool {
    matches!(path.split('/').next(), Some("workspace" | "home"))
}

/// Whether a link at `path` with this target stays in its tree.
///
/// `..` may only stand at the front, where it means what it says: behind a name it could follow
/// another link out.
pub(crate) fn target_is_inside(path: &str, target: &str) -> bool {
    // The first part of a cache's path says which directory is meant; the last is the link.
    let mut depth = path.split('/').count().saturating_sub(2);
    let mut descended = false;
    for name in target.split('/') {
        match name {
            "" => return false,
            "." => {}
            ".." if !descended && depth > 0 => depth -= 1,
            ".." => return false,
            _ => descended = true,
        }
    }
    target.len() <= PATH_BYTES_MAX && !target.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_lead_out_or_mislead_are_refused() {
        let refused = [
            ("", NameError::Empty),
            ("/etc/passwd", NameError::Outside),
            ("../x", NameError::Outside),
            ("a/../../x", NameError::Outside),
            ("a/..", NameError::Outside),
            ("a//b", NameError::Outside),
            ("a/", NameError::Outside),
            ("./a", NameError::Outside),
            ("a\\..\\..\\x", NameError::Outside),
            ("\\\\host\\share", NameError::Outside),
            ("C:\\x", NameError::Outside),
            ("C:/x", NameError::Outside),
            ("a\0b", NameError::Nul),
            ("a\nb", NameError::Control),
            ("\u{1b}]0;title\u{7}", NameError::Control),
            ("abc\u{202E}fdp.exe", NameError::Control),
        ];
        for (path, expected) in refused {
            assert_eq!(check(TreeKind::Artifact, path), Err(expected), "{path:?}");
        }
        assert_eq!(
            check(TreeKind::Artifact, &"d/".repeat(DEPTH_MAX)),
            Err(NameError::TooDeep)
        );
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(check(TreeKind::Artifact, &long), Err(NameError::TooLong));
    }

    #[test]
    fn ordinary_paths_of_any_language_pass() {
        for path in [
            "a",
            "dist/app.js",
            "..a/b..",
            "größe/日本.txt",
            "x\\x2d.mount",
            "a b",
        ] {
            assert_eq!(check(TreeKind::Artifact, path), Ok(()), "{path:?}");
        }
        assert_eq!(check(TreeKind::Cache, "workspace/a\nb"), Ok(()));
        assert_eq!(check(TreeKind::Cache, "etc/a"), Err(NameError::Place));
    }

    #[test]
    fn links_stay_in_their_tree() {
        let check = |path: &str, target: &str| target_is_inside(path, target);
        assert!(check("workspace/a/b", "c"));
        assert!(check("workspace/a/b", "../c/d"));
        assert!(check("home/.cargo/bin/x", "../../y"));
        for target in ["/etc", "../../c", "x/../../..", "", "a//b", "../.."] {
            assert!(!check("workspace/a/b", target), "{target:?}");
        }
    }
}
