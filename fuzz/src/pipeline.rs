//! Pipeline files and expressions, as anyone can send them with a run.

use std::time::{Duration, Instant};

use rustci_pipeline::{
    Colour, Files, PlanRequest, compile_with,
    diagnostic::render_all,
    expr::{self, Contexts},
    habits, parse_with, plan,
};

/// No file keeps the reader longer, whatever its aliases and its depth.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a pipeline file of either dialect and plans it.
pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let start = Instant::now();
    let (text, files) = files(text);
    let parsed = parse_with("fuzz.yaml", text, &files);
    let failed = parsed
        .diagnostics
        .iter()
        .any(|diagnostic| diagnostic.is_error());
    assert_eq!(
        parsed.pipeline.is_none(),
        failed,
        "no pipeline means at least one error"
    );
    for diagnostic in &parsed.diagnostics {
        assert!(
            diagnostic.span.line > 0 && diagnostic.span.column > 0,
            "{diagnostic:?}"
        );
    }
    let _ = render_all(&parsed.diagnostics, text, Colour::Off);
    let _ = habits("fuzz.yaml", text, &files);
    let request = PlanRequest {
        event: "push".to_owned(),
        ..PlanRequest::default()
    };
    if let Some(pipeline) = &parsed.pipeline
        && let Ok(planned) = plan(pipeline, &request)
    {
        let again =
            compile_with("fuzz.yaml", text, &files, &request).expect("it was planned before");
        assert_eq!(
            planned.plan.digest(),
            again.plan.digest(),
            "one text has one digest"
        );
    }
    assert!(start.elapsed() < TIME_MAX, "took {:?}", start.elapsed());
}

/// The pipeline and the files that it can include: each begins with a line `#file NAME`.
fn files(text: &str) -> (&str, Files) {
    let mut parts = text.split("\n#file ");
    let own = parts.next().unwrap_or_default();
    let named = |part: &str| {
        let (name, text) = part.split_once('\n')?;
        Some((name.to_owned(), text.to_owned()))
    };
    (own, parts.filter_map(named).collect())
}

/// Reads an expression and evaluates it without any value set.
pub(crate) fn expression(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(expression) = expr::parse(text) {
        let _ = expr::evaluate(&expression, &Contexts::new());
    }
}
