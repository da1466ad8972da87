//! The ends of the logs of failed jobs.

use crate::api::client::Api;
use crate::api::follow::{Lines, log_path};
use crate::api::view::JobView;
use crate::failure::Failure;
use crate::render::board::{Board, LogLine, Mood};
use crate::render::job::mood;

/// Lines asked for at the end of a log; the last ones of the failed step are shown, and other steps
/// may have run after it.
const LINES: u32 = 200;

/// Puts the last lines of every failed job on the board, in place of what is there.
///
/// # Errors
/// As [`Api::find`](Api::find).
pub(crate) async fn load_tails(api: &Api, board: &mut Board) -> Result<(), Failure> {
    let bad = board
        .run
        .jobs
        .iter()
        .filter(|job| mood(job, &board.run) == Mood::Bad);
    let bad: Vec<JobView> = bad.cloned().collect();
    for job in &bad {
        board.forget(job.id);
        for line in last_lines(api, board.run.id, job).await? {
            board.log(&line);
        }
    }
    Ok(())
}

async fn last_lines(api: &Api, run: u64, job: &JobView) -> Result<Vec<LogLine>, Failure> {
    let path = log_path(run, job.id, None, &format!("&tail={LINES}"));
    let Some(mut events) = api.events(&path, None).await? else {
        return Ok(Vec::new());
    };
    let mut joined = Lines::new(job.id);
    let mut lines = Vec::new();
    while let Some(event) = events.next().await?.filter(|event| event.name != "end") {
        let record =
            serde_json::from_str(&event.data).map_err(|error| api.not_understood(error))?;
        lines.extend(joined.take(&record));
    }
    lines.extend(joined.rest());
    Ok(lines)
}
