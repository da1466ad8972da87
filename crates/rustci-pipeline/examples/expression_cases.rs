//! Runs the evaluator over the expression cases of `actions/languageservices` (`expressions/testdata`).
//!
//! The cases are not part of this repository. With a checkout of theirs:
//! `cargo run -p rustci-pipeline --example expression_cases -- languageservices/expressions/testdata`

#![expect(
    clippy::print_stdout,
    reason = "a program that reports to the terminal"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustci_pipeline::expr::{self, Contexts, Expr, ExprErrorKind, ExprKind, Value};
use serde_json::{Map, Value as Json};

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1).map(PathBuf::from) else {
        println!("usage: expression_cases DIRECTORY");
        return ExitCode::from(2);
    };
    match run(&directory) {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            ExitCode::from(u8::from(failed > 0))
        }
        Err(error) => {
            println!("{}: {error}", directory.display());
            ExitCode::from(2)
        }
    }
}

fn run(directory: &Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|e| e == "json"))
    {
        let groups: Map<String, Json> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        for (group, cases) in &groups {
            for case in cases.as_array().into_iter().flatten() {
                match check(case) {
                    Ok(()) => passed += 1,
                    Err(message) => {
                        failed += 1;
                        let name = file.file_name().unwrap_or_default().to_string_lossy();
                        println!("{name} {group}: {}\n    {message}", case["expr"]);
                    }
                }
            }
        }
    }
    Ok((passed, failed))
}

/// How far a case came, with the position of a mistake in the text.
enum Outcome {
    Failed { stage: &'static str, at: usize },
    Value(Value),
}

fn check(case: &Json) -> Result<(), String> {
    let text = case["expr"].as_str().unwrap_or_default();
    let empty = Map::new();
    let contexts = case["contexts"].as_object().unwrap_or(&empty);
    let outcome = evaluate(text, contexts);
    let Some(error) = case.get("err") else {
        return same(outcome, &case["result"]);
    };
    let wanted = error["kind"].as_str().unwrap_or_default();
    match outcome {
        Outcome::Failed { stage, at } if stage == wanted => same_place(text, at, error),
        Outcome::Failed { stage, .. } => Err(format!("{wanted} error expected, got {stage} error")),
        Outcome::Value(value) => Err(format!("{wanted} error expected, got {value:?}")),
    }
}

fn evaluate(text: &str, contexts: &Map<String, Json>) -> Outcome {
    let failed = |error: expr::ExprError| {
        let stage = match error.kind {
            ExprErrorKind::Lexing => "lexing",
            ExprErrorKind::Parsing | ExprErrorKind::UnknownFunction | ExprErrorKind::Limit => {
                "parsing"
            }
            _ => "evaluation",
        };
        Outcome::Failed {
            stage,
            at: error.at.start,
        }
    };
    let expr = match expr::parse(text) {
        Ok(expr) => expr,
        Err(error) => return failed(error),
    };
    // Their parser knows the contexts, ours leaves that to the checks of a whole file.
    if let Some(at) = unknown_context(&expr, contexts) {
        return Outcome::Failed {
            stage: "parsing",
            at,
        };
    }
    match expr::evaluate(&expr, &Contexts::from_json(contexts)) {
        Ok(value) => Outcome::Value(value),
        Err(error) if error.kind == ExprErrorKind::Limit => Outcome::Failed {
            stage: "evaluation",
            at: error.at.start,
        },
        Err(error) => failed(error),
    }
}

fn unknown_context(expr: &Expr, contexts: &Map<String, Json>) -> Option<usize> {
    let mut found = None;
    expr.walk(&mut |part| {
        if let ExprKind::Context(name) = &part.kind
            && !contexts
                .keys()
                .any(|known| known.eq_ignore_ascii_case(name))
        {
            found = found.or(Some(part.at.start));
        }
    });
    found
}

fn same(outcome: Outcome, wanted: &Json) -> Result<(), String> {
    let value = match outcome {
        Outcome::Value(value) => value,
        Outcome::Failed { stage, at } => {
            return Err(format!("{stage} error at {at}, no error expected"));
        }
    };
    let kind = wanted["kind"].as_str().unwrap_or_default().to_lowercase();
    let kind = if kind == "dictionary" {
        "object".to_owned()
    } else {
        kind
    };
    if value.kind() != kind {
        return Err(format!("{kind} expected, got {value:?}"));
    }
    // Their files have 1.0 where ours have 1: both are one number.
    let (wanted, got) = (Value::from(&wanted["value"]).to_json(), value.to_json());
    if wanted == got {
        Ok(())
    } else {
        Err(format!("{wanted} expected, got {got}"))
    }
}

/// Their messages count from 1, in UTF-16 units of the last line, and are compared by their start.
/// An unknown context is found by their parser and by our checks, so its place says nothing.
fn same_place(text: &str, at: usize, error: &Json) -> Result<(), String> {
    let message = error["value"].as_str().unwrap_or_default();
    let Some((what, wanted)) = message.split_once("Located at position ") else {
        return Ok(());
    };
    let got = text.get(..at).unwrap_or_default().encode_utf16().count() + 1;
    let wanted = wanted.split(' ').next().unwrap_or_default();
    let comparable = !text.contains('\n') && !what.starts_with("Unrecognized named-value");
    if comparable && !got.to_string().starts_with(wanted) {
        return Err(format!("error at {wanted} expected, got {got}"));
    }
    Ok(())
}
