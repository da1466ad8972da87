//! Text to tokens.

use std::ops::Range;

use super::error::{ExprError, ExprErrorKind};
use super::value::parse_number;
use crate::limits::EXPRESSION_BYTES_MAX;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    OpenRound,
    CloseRound,
    OpenSquare,
    CloseSquare,
    Comma,
    Dot,
    Star,
    Not,
    NotEqual,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Name(String),
}

/// A token and the bytes it stands at.
pub(super) type Spanned = (Token, Range<usize>);

/// All tokens of an expression.
///
/// # Errors
/// For text that is too long, and for the first word that no expression has.
pub(super) fn lex(text: &str) -> Result<Vec<Spanned>, ExprError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("expression is longer than {EXPRESSION_BYTES_MAX} bytes");
        return Err(ExprError::new(ExprErrorKind::Limit, 0..text.len(), message));
    }
    let mut lexer = Lexer {
        text,
        at: 0,
        tokens: Vec::new(),
    };
    while lexer.next_token()? {}
    Ok(lexer.tokens)
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Spanned>,
}

impl Lexer<'_> {
    /// What is not read yet.
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Adds a token of the next bytes.
    fn push(&mut self, token: Token, bytes: usize) {
        self.tokens.push((token, self.at..self.at + bytes));
        self.at += bytes;
    }

    /// Reads one token; false at the end.
    fn next_token(&mut self) -> Result<bool, ExprError> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let Some(first) = self.rest().chars().next() else {
            return Ok(false);
        };
        if let Some((token, bytes)) = operator(self.rest()) {
            self.push(token, bytes);
            return Ok(true);
        }
        match first {
            '.' if self.follows_value() => self.push(Token::Dot, 1),
            '\'' => self.text_literal()?,
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            _ => self.name()?,
        }
        Ok(true)
    }

    // A dot after a value is an access, anywhere else it begins a number: `.5`.
    fn follows_value(&self) -> bool {
        let last = self.tokens.last().map(|(token, _)| token);
        matches!(
            last,
            Some(Token::Name(_) | Token::CloseSquare | Token::CloseRound | Token::Star)
        )
    }

    /// Bytes up to the next sign or space.
    fn word_len(&self, also_dots: Dots) -> usize {
        let rest = self.rest();
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let tail = rest.get(first..).unwrap_or_default();
        let end = tail.find(|c| is_boundary(c) && !(c == '.' && also_dots == Dots::Inside));
        first + end.unwrap_or(tail.len())
    }

    /// A number in any of its forms.
    fn number(&mut self) -> Result<(), ExprError> {
        let bytes = self.word_len(Dots::Inside);
        let number = parse_number(self.rest().get(..bytes).unwrap_or_default());
        if number.is_nan() {
            return Err(self.unexpected(bytes));
        }
        self.push(Token::Number(number), bytes);
        Ok(())
    }

    /// A text in single quotes, where two of them stand for one.
    fn text_literal(&mut self) -> Result<(), ExprError> {
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((index, c)) = chars.next() {
            if c != '\'' {
                value.push(c);
            } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
                value.push('\'');
            } else {
                self.push(Token::Text(value), index + 1);
                return Ok(());
            }
        }
        let at = self.at..self.text.len();
        Err(ExprError::new(
            ExprErrorKind::Lexing,
            at,
            "text has no closing `'`",
        ))
    }

    /// The name of a context, function or property; or a keyword.
    fn name(&mut self) -> Result<(), ExprError> {
        let bytes = self.word_len(Dots::End);
        let word = self.rest().get(..bytes).unwrap_or_default();
        if !is_name(word) {
            return Err(self.unexpected(bytes));
        }
        let after_dot = matches!(self.tokens.last(), Some((Token::Dot, _)));
        let token = if after_dot { None } else { keyword(word) };
        let token = token.unwrap_or_else(|| Token::Name(word.to_owned()));
        self.push(token, bytes);
        Ok(())
    }

    /// The error for a word that nothing is, with what was probably meant.
    fn unexpected(&self, bytes: usize) -> ExprError {
        let word = self.rest().get(..bytes).unwrap_or_default();
        let hint = match word.chars().next() {
            Some('"') => "; texts stand in single quotes",
            Some('=') => "; equality is `==`",
            Some('&') => "; and is `&&`",
            Some('|') => "; or is `||`",
            _ => "",
        };
        let message = format!("unexpected `{word}`{hint}");
        ExprError::new(ExprErrorKind::Lexing, self.at..self.at + bytes, message)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Inside,
    End,
}

/// The sign that the text begins with, and its bytes.
fn operator(rest: &str) -> Option<(Token, usize)> {
    let two = rest.get(..2).and_then(|two| match two {
        "==" => Some(Token::Equal),
        "!=" => Some(Token::NotEqual),
        "<=" => Some(Token::LessOrEqual),
        ">=" => Some(Token::GreaterOrEqual),
        "&&" => Some(Token::And),
        "||" => Some(Token::Or),
        _ => None,
    });
    if let Some(token) = two {
        return Some((token, 2));
    }
    let one = match rest.chars().next()? {
        '(' => Token::OpenRound,
        ')' => Token::CloseRound,
        '[' => Token::OpenSquare,
        ']' => Token::CloseSquare,
        ',' => Token::Comma,
        '*' => Token::Star,
        '!' => Token::Not,
        '<' => Token::Less,
        '>' => Token::Greater,
        _ => return None,
    };
    Some((one, 1))
}

/// The names that are values.
fn keyword(word: &str) -> Option<Token> {
    match word {
        "true" => Some(Token::Bool(true)),
        "false" => Some(Token::Bool(false)),
        "null" => Some(Token::Null),
        "NaN" => Some(Token::Number(f64::NAN)),
        "Infinity" => Some(Token::Number(f64::INFINITY)),
        _ => None,
    }
}

/// Whether a character ends a word.
fn is_boundary(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|'
        )
}

/// Whether a word can be a name.
fn is_name(word: &str) -> bool {
    let tail = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && word.chars().all(tail)
}
