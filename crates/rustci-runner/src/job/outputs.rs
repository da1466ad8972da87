//! The files through which a step hands values on: `$CI_OUTPUT` and `$CI_ENV`.
//!
//! One value per line as `name=value`, or several lines between `name<<WORD` and `WORD`.

use std::fmt;
use std::io;
use std::path::Path;

use super::step_files;
use crate::limits::OUTPUT_FILE_BYTES_MAX;

/// Which of the files it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairsFile {
    /// `$CI_OUTPUT`.
    Output,
    /// `$CI_ENV`.
    Env,
}

impl PairsFile {
    fn allows(self, c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || c == '-' && self == Self::Output
    }

    fn characters(self) -> &'static str {
        match self {
            Self::Output => "letters, digits, `_` and `-`",
            Self::Env => "letters, digits and `_`",
        }
    }
}

/// What one value of the file is called.
impl fmt::Display for PairsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::Env => "env",
        })
    }
}

/// Why the outputs of a step were refused. All are the step's own fault, except [`Self::Read`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error(
        "{file} `{name}` makes the {file} file of this step larger than {OUTPUT_FILE_BYTES_MAX} bytes; \
         write large results to a file"
    )]
    TooLarge { file: PairsFile, name: String },
    #[error(
        "line {line} of the {file} file is {found:?}; write name=value, or name<<WORD, the lines, WORD"
    )]
    Malformed {
        file: PairsFile,
        line: usize,
        found: String,
    },
    #[error(
        "{file} name {name:?} in line {line} may hold only {}, and starts with a letter or `_`",
        file.characters()
    )]
    Name {
        file: PairsFile,
        line: usize,
        name: String,
    },
    #[error(
        "{file} `{name}` opens with <<{word} in line {line} and never closes; end it with a line {word}"
    )]
    Unclosed {
        file: PairsFile,
        line: usize,
        name: String,
        word: String,
    },
    #[error("the {file} file cannot be read: {source}")]
    Read { file: PairsFile, source: io::Error },
}

/// Texts of the step's, masked and then cut, for messages: cut first, half of a secret could stay.
pub(crate) type Shown<'m> = &'m dyn Fn(&str) -> String;

/// Reads such a file, in the order written; a name written twice keeps its last value. A step may
/// delete it: then there are no values.
pub(crate) fn read(
    path: &Path,
    file: PairsFile,
    shown: Shown<'_>,
) -> Result<Vec<(String, String)>, OutputError> {
    let bytes = step_files::read(path, OUTPUT_FILE_BYTES_MAX)
        .map_err(|source| OutputError::Read { file, source })?;
    let text = String::from_utf8_lossy(&bytes);
    if bytes.len() as u64 > OUTPUT_FILE_BYTES_MAX {
        let name = shown(last_name(&text));
        return Err(OutputError::TooLarge { file, name });
    }
    parse(&text, file, shown)
}

fn parse(
    text: &str,
    file: PairsFile,
    shown: Shown<'_>,
) -> Result<Vec<(String, String)>, OutputError> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, content)) = lines.next() {
        if content.trim().is_empty() {
            continue;
        }
        let (name, value) = match opening(content) {
            Some(Opening::Line { name, value }) => (name, value.to_owned()),
            Some(Opening::Block { name, word }) => match block(&mut lines, word) {
                Some(value) => (name, value),
                None => {
                    let (name, word) = (shown(name), shown(word));
                    return Err(OutputError::Unclosed {
                        file,
                        line,
                        name,
                        word,
                    });
                }
            },
            None => {
                let found = shown(content);
                return Err(OutputError::Malformed { file, line, found });
            }
        };
        if !is_name(name, file) {
            let name = shown(name);
            return Err(OutputError::Name { file, line, name });
        }
        pairs.retain(|(known, _)| known != name);
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

enum Opening<'a> {
    Line { name: &'a str, value: &'a str },
    Block { name: &'a str, word: &'a str },
}

/// Whichever of `=` and `<<` comes first decides, so values may hold either.
fn opening(line: &str) -> Option<Opening<'_>> {
    let equals = line.split_once('=');
    let block = line.split_once("<<");
    match (equals, block) {
        (Some((name, _)), Some((other, word))) if other.len() < name.len() && !word.is_empty() => {
            Some(Opening::Block {
                name: other.trim(),
                word: word.trim(),
            })
        }
        (Some((name, value)), _) => Some(Opening::Line {
            name: name.trim(),
            value,
        }),
        (None, Some((name, word))) if !word.trim().is_empty() => Some(Opening::Block {
            name: name.trim(),
            word: word.trim(),
        }),
        _ => None,
    }
}

/// The lines up to `word`; `None` when it never comes.
fn block<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>, word: &str) -> Option<String> {
    let mut value = Vec::new();
    for (_, line) in lines {
        if line == word {
            return Some(value.join("\n"));
        }
        value.push(line);
    }
    None
}

fn is_name(name: &str, file: PairsFile) -> bool {
    let begins = |first: char| first.is_ascii_alphabetic() || first == '_';
    name.starts_with(begins) && name.chars().all(|c| file.allows(c))
}

/// The value during which the limit was passed: the last one that opens in what was read.
fn last_name(text: &str) -> &str {
    let (mut name, mut closing) = ("", None);
    for line in text.lines() {
        match (closing, opening(line)) {
            (Some(word), _) if line == word => closing = None,
            (Some(_), _) | (None, None) => {}
            (None, Some(Opening::Line { name: found, .. })) => name = found,
            (None, Some(Opening::Block { name: found, word })) => {
                (name, closing) = (found, Some(word));
            }
        }
    }
    name
}

/// As much of a text of the step's as fits a message.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text, PairsFile::Output, &shorten).unwrap()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_and_blocks_may_be_mixed() {
        let text = "version=1.2=3\n\nnotes<<EOF\nfirst\n\nname=not one\nEOF\nempty=\nshift=a<<b\n";
        let expected = [
            pair("version", "1.2=3"),
            pair("notes", "first\n\nname=not one"),
            pair("empty", ""),
            pair("shift", "a<<b"),
        ];
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn the_last_value_of_a_name_wins() {
        assert_eq!(parsed("a=1\nb=2\na=3\n"), [pair("b", "2"), pair("a", "3")]);
    }

    #[test]
    fn mistakes_name_the_line_and_the_way_out() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                parse(text, PairsFile::Output, &shorten)
                    .unwrap_err()
                    .to_string(),
                expected
            );
        };
        check(
            "a=1\nnonsense\n",
            "line 2 of the output file is \"nonsense\"; write name=value, or name<<WORD, the lines, WORD",
        );
        check(
            "x<<END\n1\n",
            "output `x` opens with <<END in line 1 and never closes; end it with a line END",
        );
        assert!(
            parse("1st=2", PairsFile::Output, &shorten)
                .unwrap_err()
                .to_string()
                .starts_with("output name \"1st\" in line 1")
        );
    }

    #[test]
    fn too_much_output_names_the_key_that_was_too_much() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("small=1\nbig<<EOF\n{}\nEOF\n", "line=1\n".repeat(200_000));
        std::fs::write(file.path(), text).unwrap();
        let message = read(file.path(), PairsFile::Output, &shorten)
            .unwrap_err()
            .to_string();
        assert!(
            message
                .starts_with("output `big` makes the output file of this step larger than 1048576")
        );
    }

    #[test]
    fn a_missing_file_means_no_outputs() {
        assert_eq!(
            read(
                Path::new("/nonexistent/output"),
                PairsFile::Output,
                &shorten
            )
            .unwrap(),
            []
        );
    }
}
