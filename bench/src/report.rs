//! Figures of one bench, as a table for people, JSON lines for programs, or Markdown for documents.

use serde_json::json;

/// How figures are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
    Markdown,
}

/// The figures of one bench.
pub(crate) struct Report {
    bench: &'static str,
    form: Form,
    /// Those that wait for the rest of a table.
    rows: Vec<Row>,
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
        Self {
            bench,
            form,
            rows: Vec::new(),
        }
    }

    /// Adds a figure of ours with the target it is held against.
    pub(crate) fn ours(
        &mut self,
        metric: &'static str,
        value: f64,
        unit: &'static str,
        target: impl Into<String>,
    ) {
        self.add(Row {
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
        self.add(Row {
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
        self.add(Row {
            peer,
            metric,
            value,
            unit,
            target: Some(format!("ours is {:.2} times as much", ours / value)),
        });
    }

    /// Prints a figure as soon as it is known: a bench that fails later has said what it had.
    fn add(&mut self, row: Row) {
        match self.form {
            Form::Markdown => self.rows.push(row),
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

    /// Prints what waited.
    pub(crate) fn finish(self) {
        if self.form != Form::Markdown {
            return;
        }
        line("| metric | ours | unit | target | beside it (ours divided by it) |");
        line("|---|---:|---|---|---|");
        let mut metrics: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !metrics.contains(&row.metric) {
                metrics.push(row.metric);
            }
        }
        for metric in metrics {
            let of_metric = || self.rows.iter().filter(|row| row.metric == metric);
            let ours = of_metric().find(|row| row.peer == "ours");
            let beside: Vec<String> = of_metric()
                .filter(|row| row.peer != "ours")
                .map(|row| {
                    let ratio = ours.map(|ours| short(ours.value / row.value));
                    let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio})"));
                    format!("{} {}{ratio}", row.peer, short(row.value))
                })
                .collect();
            line(&format!(
                "| `{metric}` | {} | {} | {} | {} |",
                ours.map_or_else(String::new, |ours| short(ours.value)),
                of_metric().next().map_or("", |row| row.unit),
                ours.and_then(|ours| ours.target.as_deref()).unwrap_or(""),
                beside.join(", "),
            ));
        }
    }
}

/// Three significant digits; millions as such.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", short(value / 1e6)),
        _ if value >= 1000.0 => number(value),
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ if value == 0.0 => "0".to_owned(),
        _ if value < 0.01 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_in_documents_have_three_digits() {
        for (value, text) in [
            (47_900_123.0, "47.9 M"),
            (1_000_000.0, "1.00 M"),
            (128_950_000.0, "129 M"),
            (12_345.6, "12,346"),
            (335.7, "336"),
            (17.66, "17.7"),
            (0.634, "0.63"),
            (0.0002, "0.0002"),
            (0.0, "0"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
