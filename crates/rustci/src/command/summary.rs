//! `rustci runs summary`.

use super::runs::find;
use crate::api::view::{RunView, SummaryList, SummaryView};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::text::{Keep, clean};
use crate::server::Place;

/// Prints the summaries of a run, page by page.
///
/// # Errors
/// An unknown run, or a place that cannot be asked.
pub(super) async fn summary(
    place: &Place,
    run: Option<u64>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let run = find(place, run).await?;
    let mut next = Some(String::new());
    let mut shown = 0;
    while let Some(cursor) = next.take() {
        let cursor = match cursor.as_str() {
            "" => String::new(),
            cursor => format!("&cursor={cursor}"),
        };
        let path = format!("/api/v1/runs/{}/summaries?limit=20{cursor}", run.id);
        let list: SummaryList = place.api.get(&path).await?;
        shown += list.summaries.len();
        next.clone_from(&list.next);
        match out.format() {
            Format::Json => out.json(&list)?,
            Format::Text => {
                for summary in &list.summaries {
                    out.text(&text(&run, summary, out))?;
                }
            }
        }
    }
    if shown == 0 && out.format() == Format::Text {
        let text = format!(
            "run {} has no summaries; steps write them to $CI_STEP_SUMMARY\n",
            run.id
        );
        out.text(&text)?;
    }
    Ok(Exit::Success)
}

fn text(run: &RunView, summary: &SummaryView, out: &Output) -> String {
    let job = run.jobs.iter().find(|job| job.id == summary.job);
    let step = job.and_then(|job| job.steps.iter().find(|step| step.index == summary.step));
    let step = step.map_or_else(
        || format!("step {}", summary.step + 1),
        |step| step.name.clone(),
    );
    let head = format!("{} › {step}", summary.job_key);
    let head = out.look().colour.dim(&clean(&head, Keep::Text));
    let text = summary
        .text
        .as_deref()
        .unwrap_or("(the server has this summary no more)");
    let lines = text
        .lines()
        .map(|line| format!("{}\n", clean(line, Keep::Text)));
    format!("{head}\n{}\n", lines.collect::<String>())
}
