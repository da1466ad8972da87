//! The comparison as a page shows it.

use std::fmt::Write;

use valkyrie_session::SessionError;

use super::{
    run::{Measured, measure},
    scenario::{Reader, STRATEGIES, Scenario, scenarios},
};

/// The rows of the comparison in Markdown, one after the other as they are measured.
pub fn table() -> impl Iterator<Item = Result<String, SessionError>> {
    let head = std::iter::once(Ok(head()));
    head.chain(scenarios().into_iter().map(|scenario| row(&scenario)))
}

fn head() -> String {
    let mut line = "| link | loss | reader |".to_owned();
    let mut rule = "|---|--:|---|".to_owned();
    for (name, _) in STRATEGIES {
        line.push_str(&format!(" {name} |"));
        rule.push_str("--:|");
    }
    format!("{line}\n{rule}")
}

fn row(scenario: &Scenario) -> Result<String, SessionError> {
    let mbit = scenario.bits_per_s / 1_000_000;
    let rtt = scenario.rtt.as_millis();
    let loss = scenario.loss_percent;
    let reader = match scenario.reader {
        Reader::Prompt => "prompt",
        Reader::Slow => "slow",
    };
    let mut line = format!("| {mbit} Mbit, {rtt} ms | {loss} % | {reader} |");
    for (_, flow) in STRATEGIES {
        let measured = measure(scenario, flow())?;
        // A String takes whatever is written to it.
        let _ = write!(line, " {} |", cell(scenario, &measured));
    }
    Ok(line)
}

/// Share of what can be had, time of an urgent message, largest window.
fn cell(scenario: &Scenario, measured: &Measured) -> String {
    let share = measured.rate * 100 / scenario.most().max(1);
    let ms = measured.urgent_p99.as_secs_f64() * 1000.0;
    let window = measured.window_max / 1024;
    format!("{share} %, {ms:.1} ms, {window}")
}
