//! Values that a step found out and wants masked: `$CI_MASK`, one value per line.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

use super::step_files;
use crate::limits::{MASK_FILE_BYTES_MAX, MASK_VALUES_MAX, MASKED_BYTES_MIN};
use crate::log::Patterns;

/// The file, and what was read of it.
pub(crate) struct MaskFile {
    path: PathBuf,
    seen: Option<(u64, SystemTime)>,
    known: HashSet<Vec<u8>>,
    warned: HashSet<&'static str>,
}

/// What a look at the file brought.
#[derive(Default)]
pub(crate) struct News {
    /// The patterns with the new values, if there are any.
    pub(crate) patterns: Option<Patterns>,
    /// What people have to know about values that are not masked, each thing once.
    pub(crate) warnings: Vec<&'static str>,
}

impl MaskFile {
    /// The file at `path`, which need not be there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            seen: None,
            known: HashSet::new(),
            warned: HashSet::new(),
        }
    }

    /// Looks for values that were written since the last look. Cheap when nothing was.
    pub(crate) fn look(&mut self, patterns: &Patterns) -> News {
        let mut news = News::default();
        let Ok(status) = self.path.symlink_metadata() else {
            return news;
        };
        let now = status
            .modified()
            .ok()
            .map(|modified| (status.len(), modified));
        if now.is_none() || now == self.seen || status.len() == 0 {
            return news;
        }
        self.seen = now;
        match step_files::read(&self.path, MASK_FILE_BYTES_MAX) {
            Ok(bytes) => news.patterns = self.learn(&bytes, patterns, &mut news.warnings),
            Err(_) => news
                .warnings
                .push("$CI_MASK is not a file any more: values written to it are not masked"),
        }
        news.warnings.retain(|warning| self.warned.insert(warning));
        news
    }

    fn learn(
        &mut self,
        bytes: &[u8],
        patterns: &Patterns,
        warnings: &mut Vec<&'static str>,
    ) -> Option<Patterns> {
        if bytes.len() as u64 > MASK_FILE_BYTES_MAX {
            warnings
                .push("$CI_MASK has more than 1048576 bytes: values behind that are not masked");
        }
        let mut new = Vec::new();
        for value in bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
            if value.is_empty() || self.known.contains(value) {
                continue;
            }
            if value.len() < MASKED_BYTES_MIN {
                warnings.push("a value in $CI_MASK is shorter than 4 bytes and is not masked");
            } else if self.known.len() >= MASK_VALUES_MAX {
                warnings.push("$CI_MASK has more than 1000 values: further ones are not masked");
            } else {
                self.known.insert(value.to_owned());
                new.push(value);
            }
        }
        (!new.is_empty()).then(|| patterns.with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::rc::Rc;

    #[test]
    fn values_count_from_the_moment_they_are_written() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mask");
        let mut file = MaskFile::new(path.clone());
        let none = Patterns::new([]);
        assert!(file.look(&none).patterns.is_none());
        fs::write(&path, "one-secret\nab\nleft-open").unwrap();
        let news = file.look(&none);
        assert_eq!(news.warnings.len(), 1);
        let first = Rc::new(news.patterns.unwrap());
        assert_eq!(first.mask("one-secret left-open ab"), "*** *** ab");
        assert!(file.look(&first).patterns.is_none());
        // Also through `>` instead of `>>`: what was masked once stays masked.
        fs::write(&path, "another\nab\n").unwrap();
        let news = file.look(&first);
        let second = Rc::new(news.patterns.unwrap());
        assert_eq!(second.mask("one-secret another"), "*** ***");
        assert!(news.warnings.is_empty(), "each warning once");
    }

    #[test]
    fn too_many_values_are_said_to_be_too_many() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mask");
        let values: Vec<String> = (0..=MASK_VALUES_MAX).map(|n| format!("v-{n:05}")).collect();
        fs::write(&path, values.join("\n")).unwrap();
        let news = MaskFile::new(path).look(&Patterns::new([]));
        assert!(news.warnings[0].contains("more than 1000 values"));
        assert_eq!(Rc::new(news.patterns.unwrap()).mask("v-00999"), "***");
    }
}
