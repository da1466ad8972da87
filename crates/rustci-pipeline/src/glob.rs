//! Patterns for branches, tags and paths, with GitHub's signs.
//!
//! `*` is any text without `/`, `**` any text, `?` one character but `/`, `[a-z]` one of several,
//! `\` takes the next character as it is. A list is read in order and the last pattern that fits
//! decides; `!` in front means "not".

/// One pattern, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    negative: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**`
    Any,
    /// The way past the next part.
    Optional,
    /// `**/` at the start or after a slash: whole directories. Always behind `Optional`, as no
    /// directory at all is fine too.
    Directories,
    Set {
        negative: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A sentence for people, when the pattern is empty or breaks off.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (negative, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err("a pattern is empty".to_owned());
        }
        let chars: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::new();
        let mut rest = chars.as_slice();
        while let Some((part, used)) = next_part(rest, parts.last())? {
            if part == Part::Directories {
                parts.push(Part::Optional);
            }
            parts.push(part);
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(Self { negative, parts })
    }

    /// Whether it begins with `!`.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether the pattern, without its `!`, fits all of `text`.
    ///
    /// Takes at most the product of both lengths.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        // A set of places in the pattern, moved over the text: the time is the product of both
        // lengths whatever the pattern is.
        let mut at = vec![false; self.parts.len() + 1];
        set(&mut at, 0);
        self.skip_empty(&mut at);
        for c in text.chars() {
            let mut next = vec![false; at.len()];
            for (index, part) in self.parts.iter().enumerate() {
                if at.get(index) == Some(&true) {
                    step(part, c, index, &mut next);
                }
            }
            self.skip_empty(&mut next);
            at = next;
        }
        at.last() == Some(&true)
    }

    /// Parts that may stand for nothing are passed without a character.
    fn skip_empty(&self, at: &mut [bool]) {
        for (index, part) in self.parts.iter().enumerate() {
            if at.get(index) != Some(&true) {
                continue;
            }
            match part {
                Part::Some | Part::Any => set(at, index + 1),
                Part::Optional => {
                    set(at, index + 1);
                    set(at, index + 2);
                }
                _ => {}
            }
        }
    }
}

/// Whether a list lets `text` pass: the last pattern that fits is not a negative one.
#[must_use]
pub fn list_fits(globs: &[Glob], text: &str) -> bool {
    let last = globs.iter().rev().find(|glob| glob.fits(text));
    last.is_some_and(|glob| !glob.negative)
}

/// Marks a place in the pattern.
fn set(at: &mut [bool], index: usize) {
    if let Some(flag) = at.get_mut(index) {
        *flag = true;
    }
}

/// Where the pattern can be after one more character, from one place in it.
fn step(part: &Part, c: char, index: usize, next: &mut [bool]) {
    match part {
        Part::Char(wanted) if *wanted == c => set(next, index + 1),
        Part::One if c != '/' => set(next, index + 1),
        Part::Some if c != '/' => set(next, index),
        Part::Any => set(next, index),
        Part::Directories => {
            set(next, index);
            if c == '/' {
                set(next, index + 1);
            }
        }
        Part::Set { negative, ranges } if c != '/' => {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            if inside != *negative {
                set(next, index + 1);
            }
        }
        _ => {}
    }
}

type NextPart = Result<Option<(Part, usize)>, String>;

/// The part that a pattern begins with and its characters; none at the end.
fn next_part(rest: &[char], last: Option<&Part>) -> NextPart {
    let at_start = matches!(last, None | Some(Part::Char('/') | Part::Directories));
    Ok(Some(match rest {
        [] => return Ok(None),
        ['*', '*', '/', ..] if at_start => (Part::Directories, 3),
        ['*', '*', ..] => (Part::Any, 2),
        ['*', ..] => (Part::Some, 1),
        ['?', ..] => (Part::One, 1),
        ['\\', c, ..] => (Part::Char(*c), 2),
        ['\\'] => return Err("a pattern ends with a lone `\\`".to_owned()),
        ['[', set @ ..] => return character_set(set).map(Some),
        [c, ..] => (Part::Char(*c), 1),
    }))
}

/// What stands behind a `[`.
fn character_set(rest: &[char]) -> Result<(Part, usize), String> {
    let close = rest
        .iter()
        .skip(1)
        .position(|c| *c == ']')
        .map(|index| index + 1);
    let inner = close.and_then(|close| rest.get(..close));
    let Some(inner) = inner else {
        return Err("a `[` in a pattern has no `]`".to_owned());
    };
    let (negative, mut inner_rest) = match inner {
        ['!' | '^', tail @ ..] if !tail.is_empty() => (true, tail),
        _ => (false, inner),
    };
    let mut ranges = Vec::new();
    loop {
        inner_rest = match inner_rest {
            [] => break,
            [low, '-', high, tail @ ..] => {
                if low > high {
                    return Err(format!("`{low}-{high}` in a pattern is backwards"));
                }
                ranges.push((*low, *high));
                tail
            }
            [one, tail @ ..] => {
                ranges.push((*one, *one));
                tail
            }
        };
    }
    Ok((Part::Set { negative, ranges }, inner.len() + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_on_github() {
        let cases = [
            ("main", "main", true),
            ("main", "mainly", false),
            ("*", "main", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("release/*", "release/1", true),
            ("release/*", "release/1/2", false),
            ("release/**", "release/1/2", true),
            ("**/README.md", "README.md", true),
            ("**/README.md", "a/b/README.md", true),
            ("**/README.md", "a/bREADME.md", false),
            ("docs/**/x.md", "docs/x.md", true),
            ("docs/**/x.md", "docs/a/b/x.md", true),
            ("docs/**/x.md", "docsx.md", false),
            ("*.md", "README.md", true),
            ("*.md", "a/README.md", false),
            ("**.md", "a/README.md", true),
            ("v[0-9].?", "v1.2", true),
            ("v[!0-9]", "va", true),
            ("v[!0-9]", "v1", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("é?", "éü", true),
        ];
        for (pattern, text, expected) in cases {
            let glob = Glob::parse(pattern).unwrap();
            assert_eq!(glob.fits(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let globs: Vec<_> = ["release/**", "!release/**-rc", "release/9-rc"]
            .map(|p| Glob::parse(p).unwrap())
            .into();
        let cases = [
            ("release/1", true),
            ("release/1-rc", false),
            ("release/9-rc", true),
            ("x", false),
        ];
        for (text, expected) in cases {
            assert_eq!(list_fits(&globs, text), expected, "{text}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in ["", "!", "a[", "a[b", "a\\", "[z-a]"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let glob = Glob::parse(&"*a".repeat(500)).unwrap();
        assert!(!glob.fits(&"a".repeat(499)));
        assert!(glob.fits(&"a".repeat(600)));
    }
}
