//! The file through which a step hands values on: `$CI_OUTPUT`.
//!
//! One value per line as `name=value`, or several lines between `name<<WORD` and `WORD`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::limits::OUTPUT_FILE_BYTES_MAX;

/// Why the outputs of a step were refused. All are the step's own fault, except [`Self::Read`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    #[error(
        "output `{name}` makes the outputs of this step larger than {OUTPUT_FILE_BYTES_MAX} bytes; \
         write large results to a file"
    )]
    TooLarge { name: String },
    #[error(
        "line {line} of the output file is {found:?}; write name=value, or name<<WORD, the lines, WORD"
    )]
    Malformed { line: usize, found: String },
    #[error(
        "output name {name:?} in line {line} may hold only letters, digits, `_` and `-`, and starts with a letter or `_`"
    )]
    Name { line: usize, name: String },
    #[error(
        "output `{name}` opens with <<{word} in line {line} and never closes; end it with a line {word}"
    )]
    Unclosed {
        line: usize,
        name: String,
        word: String,
    },
    #[error("the output file cannot be read")]
    Read(#[from] io::Error),
}

/// Reads the outputs of a step, in the order written; a name written twice keeps its last value.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, OutputError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(OUTPUT_FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)?,
        // A step may delete it: then it has no outputs.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    if bytes.len() as u64 > OUTPUT_FILE_BYTES_MAX {
        return Err(OutputError::TooLarge {
            name: last_name(&text),
        });
    }
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<(String, String)>, OutputError> {
    let mut outputs: Vec<(String, String)> = Vec::new();
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        let (name, value) = match opening(line) {
            Some(Opening::Line { name, value }) => (name, value.to_owned()),
            Some(Opening::Block { name, word }) => (name, block(&mut lines, number, name, word)?),
            None => {
                return Err(OutputError::Malformed {
                    line: number,
                    found: shorten(line),
                });
            }
        };
        if !is_name(name) {
            return Err(OutputError::Name {
                line: number,
                name: shorten(name),
            });
        }
        outputs.retain(|(known, _)| known != name);
        outputs.push((name.to_owned(), value));
    }
    Ok(outputs)
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

fn block<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    opened: usize,
    name: &str,
    word: &str,
) -> Result<String, OutputError> {
    let mut value = Vec::new();
    for (_, line) in lines {
        if line == word {
            return Ok(value.join("\n"));
        }
        value.push(line);
    }
    Err(OutputError::Unclosed {
        line: opened,
        name: shorten(name),
        word: shorten(word),
    })
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// The value during which the limit was passed: the last one that opens in what was read.
fn last_name(text: &str) -> String {
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
    shorten(name)
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
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
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
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
            parse("1st=2")
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
        let message = read(file.path()).unwrap_err().to_string();
        assert!(
            message.starts_with("output `big` makes the outputs of this step larger than 1048576")
        );
    }

    #[test]
    fn a_missing_file_means_no_outputs() {
        assert_eq!(read(Path::new("/nonexistent/output")).unwrap(), []);
    }
}
