//! Conditions of jobs and steps.

use crate::expr::{self, Contexts, ExprError};

pub use crate::expr::{Outcome, Status};

/// Whether a job or step is to run.
///
/// `condition` is a bare expression. Without a status function in it `success()` is needed as
/// well; no condition means `success()`. `contexts` has to have a [`Status`].
///
/// # Errors
/// [`ExprError`] when the expression cannot be evaluated; the job or step then has an error, it
/// is not skipped.
pub fn evaluate(condition: Option<&str>, contexts: &Contexts) -> Result<bool, ExprError> {
    let success = contexts.status().is_none_or(Status::success);
    let Some(condition) = condition else {
        return Ok(success);
    };
    let expr = expr::parse(condition)?;
    if !success && !expr.uses_status() {
        return Ok(false);
    }
    Ok(expr::evaluate(&expr, contexts)?.is_truthy())
}

/// Evaluates `continue_on_error`: `true`, `false`, empty (false) or a bare expression.
///
/// # Errors
/// [`ExprError`] when the expression cannot be evaluated.
pub fn flag(text: &str, contexts: &Contexts) -> Result<bool, ExprError> {
    match text {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        _ => Ok(expr::evaluate(&expr::parse(text)?, contexts)?.is_truthy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_needed_unless_a_status_function_is_used() {
        let cases = [
            (None, [true, false, false, false]),
            (Some("true"), [true, false, false, false]),
            (Some("false"), [false; 4]),
            (Some("always()"), [true; 4]),
            (Some("failure()"), [false, true, false, false]),
            (Some("cancelled()"), [false, false, true, false]),
            (Some("!cancelled()"), [true, true, false, true]),
            (Some("success() || failure()"), [true, true, false, false]),
        ];
        let all = [
            Status::SUCCESS,
            Status::FAILURE,
            Status::CANCELLED,
            Status::SKIPPED,
        ];
        for (condition, expected) in cases {
            let got = all
                .map(|status| evaluate(condition, &Contexts::new().with_status(status)).unwrap());
            assert_eq!(got, expected, "{condition:?}");
        }
    }

    #[test]
    fn needs_give_the_status() {
        use Outcome::{Cancelled, Failure, Skipped, Success};
        let status = Status::of_needs(&[Success, Success], &[Success]);
        assert_eq!(status, Status::SUCCESS);
        assert_eq!(Status::of_needs(&[Success, Skipped], &[]), Status::SKIPPED);
        assert_eq!(Status::of_needs(&[Failure, Skipped], &[]), Status::FAILURE);
        assert_eq!(Status::of_needs(&[Cancelled], &[]), Status::CANCELLED);
        let behind = Status::of_needs(&[Success], &[Success, Failure]);
        assert!(behind.success() && behind.failure());
        assert_eq!(Status::SUCCESS.cancel(), Status::CANCELLED);
    }

    #[test]
    fn flags_are_words_or_expressions() {
        let contexts = Contexts::new();
        for (text, expected) in [
            ("", false),
            ("true", true),
            ("false", false),
            ("1 < 2", true),
        ] {
            assert_eq!(flag(text, &contexts).unwrap(), expected);
        }
    }
}
