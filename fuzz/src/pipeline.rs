//! Pipeline files and expressions, as anyone can send them with a run.

use std::time::{Duration, Instant};

use rustci_pipeline::{
    Colour, Files, PlanRequest, compile,
    diagnostic::render_all,
    expr::{self, Contexts},
    habits, parse, plan,
};

/// No file keeps the reader longer, whatever its aliases and its depth.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Reads a pipeline file of either dialect and plans it.
pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let start = Instant::now();
    let parsed = parse("fuzz.yaml", text);
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
    let _ = habits("fuzz.yaml", text, &Files::new());
    let request = PlanRequest {
        event: "push".to_owned(),
        ..PlanRequest::default()
    };
    if let Some(pipeline) = &parsed.pipeline
        && let Ok(planned) = plan(pipeline, &request)
    {
        let again = compile("fuzz.yaml", text, &request).expect("it was planned before");
        assert_eq!(
            planned.plan.digest(),
            again.plan.digest(),
            "one text has one digest"
        );
    }
    assert!(start.elapsed() < TIME_MAX, "took {:?}", start.elapsed());
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
