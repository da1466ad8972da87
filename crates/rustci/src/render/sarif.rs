//! Findings as SARIF 2.1.0, which code hosts show on the lines that they are about.

use rustci_pipeline::{Code, Diagnostic, Severity};
use serde_json::{Value, json};

/// The log of one check over several files.
pub(crate) fn sarif<'d>(found: impl IntoIterator<Item = &'d Diagnostic>) -> Value {
    let rules = Code::ALL.iter().map(|(code, text)| {
        json!({
            "id": code.to_string(),
            "shortDescription": { "text": text },
        })
    });
    let results = found.into_iter().map(result);
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "rustci",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

/// One finding.
fn result(found: &Diagnostic) -> Value {
    let level = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let help = found.help.as_ref().map(|help| format!("; {help}"));
    let text = format!("{}{}", found.message, help.unwrap_or_default());
    json!({
        "ruleId": found.code.to_string(),
        "level": level,
        "message": { "text": text },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": found.file },
            "region": {
                "startLine": found.span.line,
                "startColumn": found.span.column,
                "endColumn": found.span.column + found.span.len,
            },
        } }],
    })
}
