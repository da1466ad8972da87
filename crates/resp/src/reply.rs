//! The client's half: commands to send, answers to read.

use memchr::memchr;

use crate::number::parse_integer;
use crate::parser::LINE_BYTES_MAX;

/// Appends a command to `out`.
pub fn command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: impl IntoIterator<Item = A>) {
    let start = out.len();
    let mut count = 0;
    for arg in args {
        let arg = arg.as_ref();
        out.push(b'$');
        out.extend_from_slice(itoa::Buffer::new().format(arg.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
        count += 1;
    }
    let mut head = itoa::Buffer::new();
    let head = [b"*", head.format(count).as_bytes(), b"\r\n"].concat();
    out.splice(start..start, head);
}

/// An answer of a server, in either version.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// A short text, like `OK`.
    Simple(String),
    /// What went wrong: a code in capitals and words.
    Error(String),
    /// A whole number.
    Integer(i64),
    /// Any bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Null,
    /// Several answers.
    Array(Vec<Self>),
    /// Pairs of key and value.
    Map(Vec<(Self, Self)>),
    /// Several different answers.
    Set(Vec<Self>),
    /// A message that answers nothing.
    Push(Vec<Self>),
    /// A number with a fraction.
    Double(f64),
    /// Yes or no.
    Boolean(bool),
    /// A whole number of any length, as text.
    BigNumber(String),
}

/// What a server did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// No answer begins with this.
    #[error("no answer begins with '{}'", .0.escape_ascii())]
    Kind(u8),
    /// A length, number or truth is none.
    #[error("the value behind '{}' is none", .0.escape_ascii())]
    Value(u8),
    /// Lists in lists, deeper than any server has them.
    #[error("the answer is more than {DEPTH_MAX} lists deep")]
    Depth,
    /// Longer than a client takes.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Deepest lists in lists; `COMMAND` has six.
const DEPTH_MAX: usize = 16;

impl Reply {
    /// Reads one answer at the beginning of `input`: it and its length, or `None` where it is not
    /// whole. Attributes in front of it are skipped.
    ///
    /// # Errors
    /// See [`ReplyError`]; nothing can be read from that server any more. An answer of more than
    /// `bytes_max` is [`TooLong`](ReplyError::TooLong).
    pub fn parse(input: &[u8], bytes_max: usize) -> Result<Option<(Self, usize)>, ReplyError> {
        let mut reader = Reader { input, at: 0 };
        match reader.reply(0) {
            Ok(Some(reply)) if reader.at <= bytes_max => Ok(Some((reply, reader.at))),
            Ok(None) if input.len() <= bytes_max => Ok(None),
            Ok(_) => Err(ReplyError::TooLong(bytes_max)),
            Err(error) => Err(error),
        }
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, ReplyError> {
        if depth > DEPTH_MAX {
            return Err(ReplyError::Depth);
        }
        let Some((kind, line)) = self.line()? else {
            return Ok(None);
        };
        let text = || String::from_utf8_lossy(line).into_owned();
        let number = || parse_integer(line).ok_or(ReplyError::Value(kind));
        Ok(Some(match kind {
            b'+' => Reply::Simple(text()),
            b'-' => Reply::Error(text()),
            b':' => Reply::Integer(number()?),
            b'(' => Reply::BigNumber(text()),
            b'_' => Reply::Null,
            b',' => Reply::Double(text().parse().map_err(|_| ReplyError::Value(kind))?),
            b'#' => match line {
                b"t" => Reply::Boolean(true),
                b"f" => Reply::Boolean(false),
                _ => return Err(ReplyError::Value(kind)),
            },
            b'$' | b'*' if line == b"-1" => Reply::Null,
            b'$' | b'!' | b'=' => match self.bytes(kind, number()?)? {
                Some(bytes) => bulk(kind, bytes)?,
                None => return Ok(None),
            },
            b'*' | b'~' | b'>' => match self.list(kind, number()?, depth)? {
                Some(list) if kind == b'*' => Reply::Array(list),
                Some(list) if kind == b'~' => Reply::Set(list),
                Some(list) => Reply::Push(list),
                None => return Ok(None),
            },
            b'%' | b'|' => match self.pairs(kind, number()?, depth)? {
                Some(_) if kind == b'|' => return self.reply(depth + 1),
                Some(pairs) => Reply::Map(pairs),
                None => return Ok(None),
            },
            kind => return Err(ReplyError::Kind(kind)),
        }))
    }

    /// The first byte and the rest of its line.
    fn line(&mut self) -> Result<Option<(u8, &'a [u8])>, ReplyError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some((kind, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let Some(end) = memchr(b'\n', rest) else {
            return match rest.len() > LINE_BYTES_MAX {
                true => Err(ReplyError::TooLong(LINE_BYTES_MAX)),
                false => Ok(None),
            };
        };
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").ok_or(ReplyError::Value(*kind))?;
        self.at += end + 2;
        Ok(Some((*kind, line)))
    }

    fn bytes(&mut self, kind: u8, len: i64) -> Result<Option<&'a [u8]>, ReplyError> {
        let len = usize::try_from(len).map_err(|_| ReplyError::Value(kind))?;
        let rest = self.input.get(self.at..).unwrap_or_default();
        let Some((bytes, rest)) = rest.split_at_checked(len) else {
            return Ok(None);
        };
        match rest {
            [b'\r', b'\n', ..] => {
                self.at += len + 2;
                Ok(Some(bytes))
            }
            [] | [b'\r'] => Ok(None),
            _ => Err(ReplyError::Value(kind)),
        }
    }

    fn list(&mut self, kind: u8, len: i64, depth: usize) -> Result<Option<Vec<Reply>>, ReplyError> {
        let len = usize::try_from(len).map_err(|_| ReplyError::Value(kind))?;
        // Grows with what is there, not with what was said.
        let mut list = Vec::new();
        for _ in 0..len {
            match self.reply(depth + 1)? {
                Some(reply) => list.push(reply),
                None => return Ok(None),
            }
        }
        Ok(Some(list))
    }

    fn pairs(
        &mut self,
        kind: u8,
        len: i64,
        depth: usize,
    ) -> Result<Option<Vec<(Reply, Reply)>>, ReplyError> {
        let len = usize::try_from(len).map_err(|_| ReplyError::Value(kind))?;
        let mut pairs = Vec::new();
        for _ in 0..len {
            match (self.reply(depth + 1)?, self.reply(depth + 1)?) {
                (Some(key), Some(value)) => pairs.push((key, value)),
                _ => return Ok(None),
            }
        }
        Ok(Some(pairs))
    }
}

fn bulk(kind: u8, bytes: &[u8]) -> Result<Reply, ReplyError> {
    match kind {
        b'!' => Ok(Reply::Error(String::from_utf8_lossy(bytes).into_owned())),
        // Three letters say what the text is.
        b'=' => match bytes.split_at_checked(4) {
            Some((_, text)) => Ok(Reply::Bulk(text.to_vec())),
            None => Err(ReplyError::Value(kind)),
        },
        _ => Ok(Reply::Bulk(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Version, Writer};

    const MAX: usize = 1 << 20;

    fn check(input: &str, expected: &Reply) {
        let input = input.as_bytes();
        let (reply, used) = Reply::parse(input, MAX).unwrap().unwrap();
        assert_eq!((&reply, used), (expected, input.len()));
        for end in 0..input.len() {
            assert_eq!(Reply::parse(&input[..end], MAX), Ok(None), "{end}");
        }
    }

    #[test]
    fn answers_are_read() {
        check("+OK\r\n", &Reply::Simple("OK".to_owned()));
        check("-ERR no\r\n", &Reply::Error("ERR no".to_owned()));
        check("!5\r\nERR a\r\n", &Reply::Error("ERR a".to_owned()));
        check(":-3\r\n", &Reply::Integer(-3));
        check("$3\r\na\r\n\r\n", &Reply::Bulk(b"a\r\n".to_vec()));
        check("=6\r\ntxt:hi\r\n", &Reply::Bulk(b"hi".to_vec()));
        for null in ["$-1\r\n", "*-1\r\n", "_\r\n"] {
            check(null, &Reply::Null);
        }
        check(",-1.5\r\n", &Reply::Double(-1.5));
        check(",inf\r\n", &Reply::Double(f64::INFINITY));
        check("#t\r\n", &Reply::Boolean(true));
        check("(123\r\n", &Reply::BigNumber("123".to_owned()));
        let list = vec![Reply::Integer(1), Reply::Array(vec![])];
        check("*2\r\n:1\r\n*0\r\n", &Reply::Array(list.clone()));
        check("~2\r\n:1\r\n*0\r\n", &Reply::Set(list.clone()));
        check(">2\r\n:1\r\n*0\r\n", &Reply::Push(list));
        let pairs = vec![(Reply::Integer(1), Reply::Integer(2))];
        check("%1\r\n:1\r\n:2\r\n", &Reply::Map(pairs));
        check("|1\r\n:1\r\n:2\r\n:3\r\n", &Reply::Integer(3));
    }

    #[test]
    fn wrong_answers_are_refused() {
        for input in ["?\r\n", ":x\r\n", "$x\r\n", "#x\r\n", "+OK\n", "$1\r\nabc"] {
            assert!(Reply::parse(input.as_bytes(), MAX).is_err(), "{input:?}");
        }
        let deep = "*1\r\n".repeat(20);
        assert_eq!(Reply::parse(deep.as_bytes(), MAX), Err(ReplyError::Depth));
        assert_eq!(Reply::parse(b"$9\r\n123", 4), Err(ReplyError::TooLong(4)));
        assert_eq!(Reply::parse(b"*999999999\r\n", MAX), Ok(None));
    }

    #[test]
    fn what_the_server_writes_is_read() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, Version::Resp3);
        writer.map(1);
        writer.bulk(b"a");
        writer.double(0.1);
        let (reply, _) = Reply::parse(&out, MAX).unwrap().unwrap();
        let pairs = vec![(Reply::Bulk(b"a".to_vec()), Reply::Double(0.1))];
        assert_eq!(reply, Reply::Map(pairs));
    }
}
