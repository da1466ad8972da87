//! Figures of one bench, as a table for people or JSON lines for programs.

use serde_json::json;

/// How figures are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

/// The figures of one bench.
pub(crate) struct Report {
    bench: &'static str,
    form: Form,
}

struct Row {
    peer: &'static str,
    metric: &'static str,
    value: f64,
    unit: &'static str,
    target: Option<String>,
}

impl Report {
    pub(crate) fn new(bench: &'static str, form: Form) -> Self {
        Self { bench, form }
    }

    /// Adds a figure of ours with the target it is held against.
    pub(crate) fn ours(
        &mut self,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        target: impl Into<String>,
    ) {
        self.add(&Row {
            peer: "ours",
            metric,
            value,
            unit,
            target: Some(target.into()),
        });
    }

    /// Adds a figure of what ours is measured against.
    pub(crate) fn peer(
        &mut self,
        peer: &'static str,
        metric: &'static str,
        value: f64,
        unit: &'static str,
    ) {
        self.add(&Row {
            peer,
            metric,
            value,
            unit,
            target: None,
        });
    }

    /// Adds a figure of what ours is measured against, and how many times as much `ours` is.
    pub(crate) fn beside(
        &mut self,
        peer: &'static str,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        ours: f64,
    ) {
        self.add(&Row {
            peer,
            metric,
            value,
            unit,
            target: Some(format!("ours is {:.2} times as much", ours / value)),
        });
    }

    /// Prints a figure as soon as it is known: a bench that fails later has said what it had.
    fn add(&self, row: &Row) {
        match self.form {
            Form::Json => line(
                &json!({
                    "bench": self.bench,
                    "peer": row.peer,
                    "metric": row.metric,
                    "value": row.value,
                    "unit": row.unit,
                })
                .to_string(),
            ),
            Form::Table => line(&format!(
                "{:<11} {:<11} {:<30} {:>13} {:<4} {}",
                self.bench,
                row.peer,
                row.metric,
                number(row.value),
                row.unit,
                row.target.as_deref().unwrap_or(""),
            )),
        }
    }
}

/// Three significant digits below a thousand, grouped whole numbers above.
fn number(value: f64) -> String {
    if value < 1000.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The value below which `share` of the samples lie. Sorts them.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    let index = ((samples.len() as f64 * share) as usize).min(last);
    samples.get(index).copied().unwrap_or(f64::NAN)
}

/// Prints one line of the program's own output.
#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Prints a remark for whoever watches, beside the figures.
#[expect(clippy::print_stderr, reason = "remarks are no figures")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
