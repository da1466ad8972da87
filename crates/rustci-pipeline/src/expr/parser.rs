//! Tokens to a tree: `!`, then `< <= > >=`, then `== !=`, then `&&`, then `||`.

use std::ops::Range;

use super::ast::{Comparison, Expr, ExprKind};
use super::error::{ExprError, ExprErrorKind};
use super::function::Function;
use super::lexer::{Spanned, Token, lex};
use super::value::Value;
use crate::limits::EXPRESSION_DEPTH_MAX;

/// Reads an expression, without `${{ }}` around it. Empty text is `null`.
///
/// # Errors
/// [`ExprError`] with the place of the first mistake.
pub fn parse(text: &str) -> Result<Expr, ExprError> {
    let tokens = lex(text)?;
    if tokens.is_empty() {
        return Ok(Expr {
            kind: ExprKind::Literal(Value::Null),
            at: 0..text.len(),
        });
    }
    let mut parser = Parser {
        tokens,
        next: 0,
        depth: 0,
        text,
    };
    let expr = parser.expression()?;
    if parser.next < parser.tokens.len() {
        return Err(parser.unexpected());
    }
    Ok(expr)
}

struct Parser<'t> {
    tokens: Vec<Spanned>,
    next: usize,
    depth: usize,
    text: &'t str,
}

type Parsed = Result<Expr, ExprError>;

impl Parser<'_> {
    /// The next token.
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    /// Goes past the next token if it is this one.
    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    /// Goes past a token that has to be there.
    fn expect(&mut self, token: &Token) -> Result<(), ExprError> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Where the token before the next one ends.
    fn end(&self) -> usize {
        let last = self
            .next
            .checked_sub(1)
            .and_then(|index| self.tokens.get(index));
        last.map_or(0, |(_, at)| at.end)
    }

    /// Where the next token stands; at the end, the last one.
    fn here(&self) -> Range<usize> {
        let next = self.tokens.get(self.next).or_else(|| self.tokens.last());
        next.map_or(0..0, |(_, at)| at.clone())
    }

    /// The error for the next token.
    fn unexpected(&self) -> ExprError {
        let at = self.here();
        let word = self.text.get(at.clone()).unwrap_or_default();
        let message = if self.next < self.tokens.len() {
            format!("unexpected `{word}`")
        } else {
            format!("expression ends after `{word}`")
        };
        ExprError::new(ExprErrorKind::Parsing, at, message)
    }

    /// Goes one level deeper; the caller subtracts what it added once the level is done.
    fn deeper(&mut self) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth <= EXPRESSION_DEPTH_MAX {
            return Ok(());
        }
        let message = format!("expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels");
        Err(ExprError::new(ExprErrorKind::Limit, self.here(), message))
    }

    /// A whole expression, one level deeper.
    fn expression(&mut self) -> Parsed {
        self.deeper()?;
        let expr = self.or()?;
        self.depth -= 1;
        Ok(expr)
    }

    fn or(&mut self) -> Parsed {
        self.chain(&Token::Or, Self::and, ExprKind::Or)
    }

    fn and(&mut self) -> Parsed {
        self.chain(&Token::And, Self::equality, ExprKind::And)
    }

    /// One operand, or a list of operands with `operator` between them.
    fn chain(
        &mut self,
        operator: &Token,
        operand: fn(&mut Self) -> Parsed,
        make: fn(Vec<Expr>) -> ExprKind,
    ) -> Parsed {
        let first = operand(self)?;
        if self.peek() != Some(operator) {
            return Ok(first);
        }
        self.deeper()?;
        let start = first.at.start;
        let mut items = vec![first];
        while self.take(operator) {
            items.push(operand(self)?);
        }
        self.depth -= 1;
        Ok(Expr {
            kind: make(items),
            at: start..self.end(),
        })
    }

    fn equality(&mut self) -> Parsed {
        let comparison = |token: &Token| match token {
            Token::Equal => Some(Comparison::Equal),
            Token::NotEqual => Some(Comparison::NotEqual),
            _ => None,
        };
        self.comparisons(comparison, Self::order)
    }

    fn order(&mut self) -> Parsed {
        let comparison = |token: &Token| match token {
            Token::Less => Some(Comparison::Less),
            Token::LessOrEqual => Some(Comparison::LessOrEqual),
            Token::Greater => Some(Comparison::Greater),
            Token::GreaterOrEqual => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        self.comparisons(comparison, Self::unary)
    }

    /// Comparisons of one level, from left to right. Each is a level of the tree, so it counts.
    fn comparisons(
        &mut self,
        comparison: fn(&Token) -> Option<Comparison>,
        operand: fn(&mut Self) -> Parsed,
    ) -> Parsed {
        let mut left = operand(self)?;
        let depth = self.depth;
        while let Some(operator) = self.peek().and_then(comparison) {
            self.next += 1;
            self.deeper()?;
            let right = operand(self)?;
            let at = left.at.start..self.end();
            left = Expr {
                kind: ExprKind::Compare(operator, Box::new(left), Box::new(right)),
                at,
            };
        }
        self.depth = depth;
        Ok(left)
    }

    /// `!` in front of anything that binds stronger.
    fn unary(&mut self) -> Parsed {
        let start = self.here().start;
        if !self.take(&Token::Not) {
            return self.access();
        }
        self.deeper()?;
        let inner = self.unary()?;
        self.depth -= 1;
        Ok(Expr {
            kind: ExprKind::Not(Box::new(inner)),
            at: start..self.end(),
        })
    }

    /// A value and the properties taken from it.
    fn access(&mut self) -> Parsed {
        // Only what can hold something has properties: `1.x` and `'a'.x` are mistakes.
        let accessible = matches!(self.peek(), Some(Token::Name(_) | Token::OpenRound));
        let mut expr = self.primary()?;
        if !accessible {
            return Ok(expr);
        }
        let depth = self.depth;
        loop {
            let start = expr.at.start;
            let Some(kind) = self.accessor(&mut expr)? else {
                break;
            };
            expr = Expr {
                kind,
                at: start..self.end(),
            };
        }
        self.depth = depth;
        Ok(expr)
    }

    /// One `.name`, `.*`, `[index]` or `[*]`; leaves `of` empty when there is one.
    fn accessor(&mut self, of: &mut Expr) -> Result<Option<ExprKind>, ExprError> {
        let square = match self.peek() {
            Some(Token::Dot) => false,
            Some(Token::OpenSquare) => true,
            _ => return Ok(None),
        };
        self.next += 1;
        let index = if self.take(&Token::Star) {
            None
        } else if square {
            Some(self.expression()?)
        } else {
            Some(self.property()?)
        };
        if square {
            self.expect(&Token::CloseSquare)?;
        }
        self.deeper()?;
        let null = Expr {
            kind: ExprKind::Literal(Value::Null),
            at: 0..0,
        };
        let of = Box::new(std::mem::replace(of, null));
        Ok(Some(match index {
            None => ExprKind::Star(of),
            Some(index) => ExprKind::Index(of, Box::new(index)),
        }))
    }

    /// The name behind a dot.
    fn property(&mut self) -> Parsed {
        let at = self.here();
        let Some(Token::Name(name)) = self.peek() else {
            return Err(self.unexpected());
        };
        let value = Value::string(name);
        self.next += 1;
        Ok(Expr {
            kind: ExprKind::Literal(value),
            at,
        })
    }

    /// A literal, something in brackets, a context or a call.
    fn primary(&mut self) -> Parsed {
        let at = self.here();
        let Some(token) = self.peek().cloned() else {
            return Err(self.unexpected());
        };
        let kind = match token {
            Token::Null => ExprKind::Literal(Value::Null),
            Token::Bool(flag) => ExprKind::Literal(Value::Bool(flag)),
            Token::Number(number) => ExprKind::Literal(Value::Number(number)),
            Token::Text(text) => ExprKind::Literal(Value::string(&text)),
            Token::OpenRound => return self.group(),
            Token::Name(name) => return self.named(name, at),
            _ => return Err(self.unexpected()),
        };
        self.next += 1;
        Ok(Expr { kind, at })
    }

    /// An expression in round brackets.
    fn group(&mut self) -> Parsed {
        self.next += 1;
        let expr = self.expression()?;
        self.expect(&Token::CloseRound)?;
        Ok(expr)
    }

    /// A context, or a call of a function with its arguments.
    fn named(&mut self, name: String, at: Range<usize>) -> Parsed {
        self.next += 1;
        if !self.take(&Token::OpenRound) {
            return Ok(Expr {
                kind: ExprKind::Context(name),
                at,
            });
        }
        let mut arguments = Vec::new();
        while !self.take(&Token::CloseRound) {
            arguments.push(self.expression()?);
            if self.peek() != Some(&Token::CloseRound) {
                self.expect(&Token::Comma)?;
            }
        }
        let Some(function) = Function::find(&name) else {
            let message = format!("unknown function `{name}`");
            let error = ExprError::new(ExprErrorKind::UnknownFunction, at, message);
            return Err(ExprError {
                nearest: Function::nearest(&name),
                ..error
            });
        };
        let at = at.start..self.end();
        function
            .check_arguments(arguments.len())
            .map_err(|message| ExprError::new(ExprErrorKind::Parsing, at.clone(), message))?;
        Ok(Expr {
            kind: ExprKind::Call(function, arguments),
            at,
        })
    }
}
