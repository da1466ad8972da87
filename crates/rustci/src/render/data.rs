//! Artifacts and caches as tables.

use std::path::Path;

use super::job::Look;
use super::style::ago;
use super::table::table;
use super::text::{Keep, clean};
use crate::api::view::{ArtifactView, CacheView};

/// `3.4 MiB`.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, "KiB");
    for larger in units.into_iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

fn text(text: &str) -> String {
    clean(text, Keep::Text).into_owned()
}

/// The artifacts of a run.
pub(crate) fn artifacts(artifacts: &[ArtifactView], look: Look, now_ms: u64) -> String {
    let rows: Vec<Vec<String>> = artifacts
        .iter()
        .map(|one| {
            vec![
                text(&one.name),
                one.files.to_string(),
                size(one.bytes),
                expiry(one.expires_ms, now_ms),
                text(&one.job),
            ]
        })
        .collect();
    let head = ["NAME", "FILES", "SIZE", "KEPT", "JOB"];
    table(&head, &rows, look).join("\n") + "\n"
}

/// How long something is kept, in the unit that fits.
fn expiry(expires_ms: u64, now_ms: u64) -> String {
    let seconds = expires_ms.saturating_sub(now_ms) / 1000;
    match seconds {
        0 => "expired".to_owned(),
        1..=5_399 => format!("{} min", seconds.div_ceil(60)),
        5_400..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// An artifact that is here now.
pub(crate) fn downloaded(artifact: &ArtifactView, place: &Path) -> String {
    let files = match artifact.files {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    format!(
        "{}: {files}, {}, in {}\n",
        text(&artifact.name),
        size(artifact.bytes),
        place.display()
    )
}

/// Cache entries.
pub(crate) fn caches(caches: &[CacheView], look: Look, now_ms: u64) -> String {
    let rows: Vec<Vec<String>> = caches
        .iter()
        .map(|one| {
            vec![
                one.id.to_string(),
                text(&one.project),
                text(&one.scope),
                size(one.bytes),
                ago(one.used_ms, now_ms),
                text(&one.key),
            ]
        })
        .collect();
    let head = ["NUMBER", "PROJECT", "SCOPE", "SIZE", "USED", "KEY"];
    table(&head, &rows, look).join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_the_unit_that_fits() {
        assert_eq!(expiry(10, 20), "expired");
        assert_eq!(expiry(60_000, 0), "1 min");
        assert_eq!(expiry(7 * 86_400_000, 0), "7 days");
        assert_eq!(
            (size(12), size(5 << 20)),
            ("12 B".to_owned(), "5.0 MiB".to_owned())
        );
    }
}
