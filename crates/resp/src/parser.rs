//! Commands out of bytes.

use std::ops::Range;

use memchr::memchr;

use crate::inline;
use crate::number::parse_integer;

/// Longest line of a command: one without lengths, or a length.
pub(crate) const LINE_BYTES_MAX: usize = 64 << 10;

/// What a command may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of a command, its name among them. Default: 1,048,576.
    pub args_max: usize,
    /// Bytes of an argument. Default: 1 MiB.
    pub arg_bytes_max: usize,
    /// Bytes of a whole command. Default: 64 MiB.
    pub command_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            args_max: 1 << 20,
            arg_bytes_max: 1 << 20,
            command_bytes_max: 64 << 20,
        }
    }
}

impl Limits {
    /// For clients that have not said who they are: 10 arguments of 16 KiB, as in Redis.
    #[must_use]
    pub const fn unauthenticated() -> Self {
        Self {
            args_max: 10,
            arg_bytes_max: 16 << 10,
            command_bytes_max: 256 << 10,
        }
    }
}

/// What a client did wrong; its connection ends after the answer. The texts are those of Redis where
/// it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A command without lengths is longer than 64 KiB.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// A quote is not closed, or something follows its end.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// The line with the number of arguments has no end.
    #[error("Protocol error: too big mbulk count string")]
    CountTooLong,
    /// The number of arguments is none, or above the limit.
    #[error("Protocol error: invalid multibulk length")]
    Count,
    /// The line with the length of an argument has no end.
    #[error("Protocol error: too big bulk count string")]
    LengthTooLong,
    /// Something else is where an argument begins.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    NotAnArgument(u8),
    /// The length of an argument is none, or above the limit.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// An argument goes on behind its length.
    #[error("Protocol error: expected end of line after argument, got '{}'", .0.escape_ascii())]
    Longer(u8),
    /// The arguments of a command are too long together.
    #[error("Protocol error: command is longer than {0} bytes")]
    TooLong(usize),
}

/// Finds commands in the bytes of a client. Remembers how far it got in one that is not whole, so
/// that long commands in many pieces are looked at once.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    /// Where the next byte to look at is, from the beginning of the command that is not whole.
    at: usize,
    /// Where arguments are that were found, those of one command after the other, each from the
    /// beginning of its command.
    found: Vec<Range<u32>>,
    /// The first of them that belongs to the command that is not whole.
    open: usize,
    /// Whole commands.
    commands: Vec<Found>,
    /// What arguments of commands without lengths are when their quotes are taken off; `found` counts
    /// from its beginning then.
    unquoted: Vec<u8>,
}

/// A whole command.
#[derive(Debug, Clone, Copy)]
struct Found {
    start: usize,
    end: usize,
    /// Its arguments among all that were found.
    from: usize,
    to: usize,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lengths,
    Inline,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing of a command was seen.
    #[default]
    Between,
    /// So many arguments are to come.
    Args(usize),
    /// The same, and the next one has so many bytes.
    Arg(usize, usize),
}

/// The arguments of a command, its name first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    found: &'a [Range<u32>],
}

impl<'a> Args<'a> {
    /// Number of arguments; 0 is an empty line, which is no command and gets no answer.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The argument with this number, from 0.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let range = self.found.get(index)?;
        self.bytes.get(range.start as usize..range.end as usize)
    }

    /// All of them.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let args = *self;
        (0..args.len()).map_while(move |index| args.get(index))
    }

    /// Those from this number on.
    #[inline]
    pub fn from(&self, index: usize) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let args = *self;
        (index..args.len()).map_while(move |index| args.get(index))
    }
}

impl Parser {
    /// A parser at the beginning of a command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for one command at the beginning of `input`: its length, or `None` where it is not whole.
    /// Then the next call has to get the same bytes with more behind them.
    ///
    /// # Errors
    /// See [`ProtocolError`]; nothing can be read from that client any more.
    #[inline]
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        self.parse_many(input, limits, 1)?;
        Ok(self.commands.first().map(|command| command.end))
    }

    /// Looks for up to `count_max` commands one behind the other; how many it found. Whoever does a few
    /// at a time can see what the later ones will need.
    ///
    /// The next call has to get the bytes behind those of the commands that were done, which must be all
    /// that were found, or `input` again with more behind it where there was none.
    ///
    /// # Errors
    /// See [`ProtocolError`]; what is wrong behind whole commands is told by the next call.
    #[inline]
    pub fn parse_many(
        &mut self,
        input: &[u8],
        limits: &Limits,
        count_max: usize,
    ) -> Result<usize, ProtocolError> {
        self.forget();
        let mut start = 0;
        while self.commands.len() < count_max {
            let rest = input.get(start..).unwrap_or_default();
            match self.parse_one(rest, limits) {
                Ok(Some((used, form))) => {
                    let end = start + used;
                    self.commands.push(Found {
                        start,
                        end,
                        from: self.open,
                        to: self.found.len(),
                        form,
                    });
                    self.open = self.found.len();
                    start = end;
                }
                Ok(None) => break,
                Err(error) if self.commands.is_empty() => return Err(error),
                Err(_) => {
                    self.state = State::Between;
                    self.found.truncate(self.open);
                    break;
                }
            }
        }
        Ok(self.commands.len())
    }

    /// The arguments of the command that [`parse`](Self::parse) found in `input`.
    #[must_use]
    #[inline]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        self.command(input, 0).0
    }

    /// The arguments of one of the commands that were found in `input`, by number from 0, and where it
    /// ends.
    #[must_use]
    #[inline]
    pub fn command<'a>(&'a self, input: &'a [u8], number: usize) -> (Args<'a>, usize) {
        let Some(command) = self.commands.get(number) else {
            let (bytes, found) = (input, &[][..]);
            return (Args { bytes, found }, 0);
        };
        let bytes = match command.form {
            Form::Lengths => input.get(command.start..).unwrap_or_default(),
            Form::Inline => &self.unquoted,
        };
        let found = self.found.get(command.from..command.to).unwrap_or_default();
        (Args { bytes, found }, command.end)
    }

    /// Whether a part of a command was seen that is not whole.
    #[must_use]
    pub const fn is_inside(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Forgets the commands that were found, which are done.
    #[inline]
    fn forget(&mut self) {
        self.commands.clear();
        self.unquoted.clear();
        self.found.drain(..self.open);
        self.open = 0;
    }

    #[inline]
    fn parse_one(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Form)>, ProtocolError> {
        if self.state == State::Between {
            match input.first() {
                None => return Ok(None),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(input, limits),
            }
            let Some(count) = self.count(input, limits)? else {
                return Ok(None);
            };
            self.state = State::Args(count);
        }
        let found = self.parse_args(input, limits)?;
        Ok(found.map(|used| (used, Form::Lengths)))
    }

    fn parse_args(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        loop {
            match self.state {
                State::Args(0) => {
                    self.state = State::Between;
                    return Ok(Some(self.at));
                }
                State::Args(left) => {
                    let Some(length) = self.length(input, limits)? else {
                        return Ok(None);
                    };
                    self.state = State::Arg(left, length);
                }
                State::Arg(left, length) => {
                    let end = self.at + length;
                    match (input.get(end), input.get(end + 1)) {
                        (Some(b'\r'), Some(b'\n')) => {}
                        (Some(b'\r'), None) | (None, _) => return Ok(None),
                        (Some(b'\r'), Some(other)) | (Some(other), _) => {
                            return Err(ProtocolError::Longer(*other));
                        }
                    }
                    // Commands are at most 4 GiB long, see `length`.
                    self.found.push(self.at as u32..end as u32);
                    self.at = end + 2;
                    self.state = State::Args(left - 1);
                }
                State::Between => return Ok(None),
            }
        }
    }

    /// The number of arguments, behind `*`.
    fn count(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let rest = input.get(1..).unwrap_or_default();
        let Some((count, used)) = number(rest, ProtocolError::CountTooLong)? else {
            return Ok(None);
        };
        self.at = 1 + used;
        match count {
            // Redis takes these for nothing.
            Some(count) if count <= 0 => Ok(Some(0)),
            Some(count) if count as usize <= limits.args_max => Ok(Some(count as usize)),
            _ => Err(ProtocolError::Count),
        }
    }

    /// The length of the next argument, behind `$`.
    fn length(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => return Err(ProtocolError::NotAnArgument(*other)),
        }
        let rest = input.get(self.at + 1..).unwrap_or_default();
        let Some((length, used)) = number(rest, ProtocolError::LengthTooLong)? else {
            return Ok(None);
        };
        let length = match length.map(usize::try_from) {
            Some(Ok(length)) if length <= limits.arg_bytes_max => length,
            _ => return Err(ProtocolError::Length),
        };
        let at = self.at + 1 + used;
        let bytes_max = limits.command_bytes_max.min(u32::MAX as usize - 2);
        if at + length > bytes_max {
            return Err(ProtocolError::TooLong(bytes_max));
        }
        self.at = at;
        Ok(Some(length))
    }

    fn parse_inline(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, Form)>, ProtocolError> {
        let line_max = LINE_BYTES_MAX.min(limits.command_bytes_max);
        let searched = input.get(..=line_max).unwrap_or(input);
        let Some(end) = memchr(b'\n', searched) else {
            return match searched.len() > line_max {
                true => Err(ProtocolError::InlineTooLong),
                false => Ok(None),
            };
        };
        let line = input.get(..end).unwrap_or_default();
        inline::split(line, &mut self.unquoted, &mut self.found)?;
        if self.found.len() - self.open > limits.args_max {
            return Err(ProtocolError::Count);
        }
        Ok(Some((end + 1, Form::Inline)))
    }
}

/// A number that ends with a line, and how many bytes both take. `Some(None)` is a line that has none.
#[inline]
fn number(
    input: &[u8],
    too_long: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    // Nearly every number has one digit or two.
    match input {
        [digit @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Ok(Some((Some(i64::from(digit - b'0')), 3)));
        }
        [tens @ b'1'..=b'9', digit @ b'0'..=b'9', b'\r', b'\n', ..] => {
            let value = i64::from(tens - b'0') * 10 + i64::from(digit - b'0');
            return Ok(Some((Some(value), 4)));
        }
        _ => {}
    }
    let searched = input.get(..LINE_BYTES_MAX).unwrap_or(input);
    let Some(end) = memchr(b'\r', searched) else {
        return match searched.len() == LINE_BYTES_MAX {
            true => Err(too_long),
            false => Ok(None),
        };
    };
    match input.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => {
            let value = parse_integer(input.get(..end).unwrap_or_default());
            Ok(Some((value, end + 2)))
        }
        Some(_) => Ok(Some((None, end + 2))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Commands = Vec<Vec<Vec<u8>>>;

    /// All commands of `input`, which arrives in pieces of so many bytes.
    fn commands(input: &[u8], piece: usize, limits: &Limits) -> Result<Commands, ProtocolError> {
        let (mut parser, mut from, mut commands) = (Parser::new(), 0, Vec::new());
        for end in (piece..input.len() + piece).step_by(piece) {
            let end = end.min(input.len());
            while let Some(used) = parser.parse(&input[from..end], limits)? {
                let args = parser.args(&input[from..end]);
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                from += used;
            }
        }
        assert!(from == input.len() || input[from..].len() < 40);
        Ok(commands)
    }

    fn check(input: &str, expected: &[&[&str]]) {
        let expected: Commands = expected
            .iter()
            .map(|args| args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
            .collect();
        for piece in [1, 2, 3, 7, 1000] {
            let found = commands(input.as_bytes(), piece, &Limits::default());
            assert_eq!(found.as_ref(), Ok(&expected), "{input:?} by {piece}");
        }
    }

    fn refused(input: &str, text: &str) {
        for piece in [1, 5, 1 << 20] {
            let error = commands(input.as_bytes(), piece, &Limits::default()).unwrap_err();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn commands_with_lengths_are_found() {
        check("*1\r\n$4\r\nPING\r\n", &[&["PING"]]);
        check(
            "*3\r\n$3\r\nSET\r\n$12\r\nkey:00000001\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n",
            &[&["SET", "key:00000001", ""], &["GET", "a\r\n"]],
        );
        check("*0\r\n*-1\r\n*1\r\n$1\r\nx\r\n", &[&[], &[], &["x"]]);
        let long = "x".repeat(100);
        check(&format!("*1\r\n$100\r\n{long}\r\n"), &[&[&long]]);
    }

    #[test]
    fn commands_without_lengths_are_found() {
        check("PING\r\n", &[&["PING"]]);
        check("PING\nPING\n\n", &[&["PING"], &["PING"], &[]]);
        check("  set  k   v \r\n", &[&["set", "k", "v"]]);
        check(
            "a \"b c\\x41\\n\" 'd \\'e'\r\n",
            &[&["a", "b cA\n", "d 'e"]],
        );
        check("a \"\" ''\r\n", &[&["a", "", ""]]);
    }

    #[test]
    fn wrong_bytes_get_the_words_of_redis() {
        refused("*a\r\n", "Protocol error: invalid multibulk length");
        refused("*2000000\r\n", "Protocol error: invalid multibulk length");
        refused("*1\rx", "Protocol error: invalid multibulk length");
        refused("*1\r\nPING\r\n", "Protocol error: expected '$', got 'P'");
        refused("*1\r\n\r\n", "Protocol error: expected '$', got '\\r'");
        refused("*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
        refused("*1\r\n$2000000\r\n", "Protocol error: invalid bulk length");
        refused("*1\r\n$x\r\n", "Protocol error: invalid bulk length");
        refused(
            "*1\r\n$2\r\nabcd\r\n",
            "Protocol error: expected end of line after argument, got 'c'",
        );
        refused("a \"b\r\n", "Protocol error: unbalanced quotes in request");
        refused(
            "a \"b\"c\r\n",
            "Protocol error: unbalanced quotes in request",
        );
        refused("a 'b\r\n", "Protocol error: unbalanced quotes in request");
        let long = "1".repeat(LINE_BYTES_MAX);
        refused(
            &format!("*{long}"),
            "Protocol error: too big mbulk count string",
        );
        refused(
            &format!("*1\r\n${long}"),
            "Protocol error: too big bulk count string",
        );
        refused(
            &format!("a{long}"),
            "Protocol error: too big inline request",
        );
    }

    #[test]
    fn commands_are_bounded_as_a_whole() {
        let limits = Limits {
            command_bytes_max: 30,
            ..Limits::default()
        };
        let error = commands(b"*2\r\n$12\r\n0123456789ab\r\n$9\r\n", 1000, &limits).unwrap_err();
        assert_eq!(error, ProtocolError::TooLong(30));
        let error = commands(&[b'a'; 40], 1000, &limits).unwrap_err();
        assert_eq!(error, ProtocolError::InlineTooLong);
    }

    #[test]
    fn claims_take_no_memory() {
        let mut parser = Parser::new();
        let claim = b"*1000000\r\n$1000000\r\nab";
        assert_eq!(parser.parse(claim, &Limits::default()), Ok(None));
        assert!(parser.is_inside());
        assert_eq!(parser.found.capacity(), 0);
    }

    proptest! {
        #[test]
        fn what_was_sent_is_found(
            sent in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
                1..6,
            ),
            piece in 1..50_usize,
        ) {
            let mut input = Vec::new();
            for args in &sent {
                crate::command(&mut input, args);
            }
            prop_assert_eq!(commands(&input, piece, &Limits::default()), Ok(sent));
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_cut(
            input in proptest::collection::vec(
                prop_oneof![Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'2'), any::<u8>()],
                0..60,
            ),
            piece in 1..20_usize,
            many in 1..6_usize,
        ) {
            let limits = Limits::default();
            let whole = commands_of(&input, input.len().max(1), 1, &limits);
            prop_assert_eq!(commands_of(&input, piece, many, &limits), whole);
        }
    }

    /// The commands before what is wrong, and what is wrong.
    fn commands_of(
        input: &[u8],
        piece: usize,
        many: usize,
        limits: &Limits,
    ) -> (Commands, Option<ProtocolError>) {
        let (mut parser, mut from, mut commands) = (Parser::new(), 0, Vec::new());
        let mut used = 0;
        for end in (piece..input.len() + piece).step_by(piece) {
            let end = end.min(input.len());
            loop {
                let rest = &input[from..end];
                match parser.parse_many(rest, limits, many) {
                    Ok(0) => break,
                    Ok(count) => {
                        for number in 0..count {
                            let (args, end) = parser.command(rest, number);
                            commands.push(args.iter().map(<[u8]>::to_vec).collect());
                            used = end;
                        }
                        from += used;
                    }
                    Err(error) => return (commands, Some(error)),
                }
            }
        }
        (commands, None)
    }
}
