//! Shows a run while it goes on, and waits for its end.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::approval;
use super::reports::load_results;
use super::tails::load_tails;
use crate::api::client::Api;
use crate::api::follow::{Followed, Update};
use crate::api::view::{RunEvent, RunView, Status};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output, complain};
use crate::render::board::{Board, Channel, LogLine};
use crate::render::live::{Moment, frame};
use crate::render::plain::{Plain, Prefix};
use crate::render::style::Sink;
use crate::render::summary::{Next, Tails, summary};
use crate::signals::Signals;

/// Time between two pictures.
const PICTURE_INTERVAL: Duration = Duration::from_millis(80);

/// Silence after which plain lines say what the run waits for.
const QUIET: Duration = Duration::from_secs(2);

/// Tries to tell an unreachable server to cancel, and the time between two.
const CANCELS_MAX: u32 = 100;
const CANCEL_INTERVAL: Duration = Duration::from_millis(500);

/// Said while the server is away, and when it is back.
const AWAY: &str = "the server cannot be reached; trying again";
const BACK: &str = "the server is back";

/// What Ctrl-C means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// The run is ours: cancel it, and a second time leave it.
    Cancel,
    /// The run goes on without us.
    Leave,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// The run as it goes, with a summary at its end.
    Run,
    /// Only the lines of the logs.
    Lines(Prefix),
}

/// Shows a run until it has ended and gives its exit code.
///
/// # Errors
/// When the run can no longer be followed, or nobody reads the output.
pub(crate) async fn watch(
    api: &Api,
    mut followed: Followed,
    out: &mut Output,
    show: Show,
    next: &Next,
    on_interrupt: OnInterrupt,
) -> Result<Exit, Failure> {
    // Before the first line is out: who reads it may press Ctrl-C at once.
    let mut signals = Signals::listen()?;
    let mut view = View::new(followed.run.clone(), out, show);
    view.place.clone_from(&next.place);
    view.begin(out)?;
    let ctrl_c = (&mut signals, on_interrupt);
    let watched = to_end(api, &mut followed, &mut view, out, ctrl_c).await;
    let interrupted = match watched {
        Ok(Watched::Ended) => false,
        Ok(Watched::Canceled) => true,
        Ok(Watched::Left) => return Ok(Exit::Interrupted),
        Err(failure) => {
            view.give_up(&failure, out)?;
            return Err(failure);
        }
    };
    let run = api
        .get::<RunView>(&format!("/api/v1/runs/{}", view.board.run.id))
        .await?;
    let exit = match (interrupted, run.conclusion) {
        (true, _) => Exit::Interrupted,
        (false, Some(conclusion)) => conclusion.into(),
        (false, None) => Exit::System,
    };
    view.board.run = run;
    if view.is_picture() {
        drop(followed);
        load_tails(api, &mut view.board).await?;
    }
    if out.format() == Format::Text {
        load_results(api, &mut view.board).await?;
    }
    view.end(out, next, exit)?;
    Ok(exit)
}

/// How watching ended.
enum Watched {
    /// With the run.
    Ended,
    /// With the run, after Ctrl-C.
    Canceled,
    /// With Ctrl-C; the run goes on.
    Left,
}

/// Shows what happens until the run has ended.
async fn to_end(
    api: &Api,
    followed: &mut Followed,
    view: &mut View,
    out: &mut Output,
    (signals, on_interrupt): (&mut Signals, OnInterrupt),
) -> Result<Watched, Failure> {
    let mut ticks = tokio::time::interval(PICTURE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut quiet = tokio::time::interval_at(Instant::now() + QUIET, QUIET);
    let mut canceling = JoinSet::new();
    let mut end = Watched::Ended;
    loop {
        tokio::select! {
            update = followed.next() => match update? {
                Some(update) => {
                    quiet.reset();
                    view.take_all(update, followed, out)?;
                    // A picture needs the ends of logs only, and can have them at once.
                    if view.ended && view.is_picture() {
                        return Ok(end);
                    }
                }
                None => return Ok(end),
            },
            _ = ticks.tick(), if view.is_picture() => view.draw(out)?,
            _ = quiet.tick() => view.waits(out)?,
            Some(Ok(canceled)) = canceling.join_next() => canceled?,
            () = signals.next() => {
                if matches!(end, Watched::Canceled) {
                    out.clear()?;
                    return Err(Failure::Abandoned);
                }
                if on_interrupt == OnInterrupt::Leave {
                    out.clear()?;
                    return Ok(Watched::Left);
                }
                end = Watched::Canceled;
                view.footer = Some("canceling; press Ctrl-C again to stop at once");
                view.notice(out)?;
                canceling.spawn(cancel(api.clone(), view.board.run.id));
            }
        }
    }
}

/// Asks the server to cancel. What comes of it is the run's end; only a refusal is an answer.
async fn cancel(api: Api, run: u64) -> Result<(), Failure> {
    let path = format!("/api/v1/runs/{run}");
    // A server that is being restarted has to hear of it too. The watch ends before these do.
    for _ in 0..CANCELS_MAX {
        let refused = match api.act(&format!("{path}/cancel")).await {
            Ok(_) => return Ok(()),
            Err(Failure::Unreachable { .. } | Failure::Interrupted { .. }) => {
                tokio::time::sleep(CANCEL_INTERVAL).await;
                continue;
            }
            Err(refused) => refused,
        };
        // One that ended meanwhile has nothing left to cancel.
        return match api.find::<RunView>(&path).await {
            Ok(Some(run)) if run.status == Status::Finished => Ok(()),
            _ => Err(refused),
        };
    }
    Ok(())
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The run as far as it is known and the way it is shown.
struct View {
    board: Board,
    way: Way,
    tick: usize,
    footer: Option<&'static str>,
    /// What `rustci runs` needs to find the run.
    place: String,
    /// How to answer what was asked last.
    asked: Option<String>,
    /// The server cannot be reached at the moment.
    away: bool,
    /// The run has ended; its logs may still be on their way.
    ended: bool,
}

enum Way {
    Picture,
    Plain(Plain),
    Lines(Plain),
    Json,
}

impl View {
    fn new(run: RunView, out: &Output, show: Show) -> Self {
        let way = match (out.format(), show, out.sink()) {
            (Format::Json, ..) => Way::Json,
            (_, Show::Run, Sink::Terminal) => Way::Picture,
            (_, Show::Run, Sink::Stream) => Way::Plain(Plain::new(out.look(), Prefix::Job)),
            (_, Show::Lines(prefix), _) => Way::Lines(Plain::new(out.look(), prefix)),
        };
        Self {
            board: Board::new(run),
            way,
            tick: 0,
            footer: None,
            place: String::new(),
            asked: None,
            away: false,
            ended: false,
        }
    }

    fn is_picture(&self) -> bool {
        matches!(self.way, Way::Picture)
    }

    fn begin(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.way {
            Way::Picture => self.draw(out),
            Way::Plain(plain) => {
                let text = plain.header(&self.board) + &plain.update(&self.board);
                out.text(&text)
            }
            Way::Lines(_) => Ok(()),
            Way::Json => out.json(&json!({"kind": "start", "run": self.board.run})),
        }
    }

    /// Takes an update and all that are waiting behind it, and writes once.
    fn take_all(
        &mut self,
        update: Update,
        followed: &mut Followed,
        out: &mut Output,
    ) -> Result<(), Failure> {
        /// Text gathered before it is written.
        const TEXT_BYTES: usize = 256 << 10;
        let mut text = self.take(update)?;
        while text.len() < TEXT_BYTES {
            match followed.ready() {
                Some(update) => text.push_str(&self.take(update?)?),
                None => break,
            }
        }
        if text.is_empty() {
            Ok(())
        } else {
            out.text(&text)
        }
    }

    /// Takes one update; gives what is to be printed.
    fn take(&mut self, update: Update) -> Result<String, Failure> {
        match &update {
            Update::State(event) => {
                self.board.apply(event);
                self.ended |= matches!(**event, RunEvent::End { .. });
            }
            Update::Line(line) => self.board.log(line),
            Update::LogEnded(_) => {}
            Update::Away => self.away = true,
            Update::Back => self.away = false,
        }
        if let (Some(notice), Way::Lines(_) | Way::Json) = (notice(&update), &self.way) {
            // Standard output has nothing but lines of the run there.
            complain(&format!("{notice}\n"));
            return Ok(String::new());
        }
        let board = &self.board;
        Ok(match &mut self.way {
            Way::Picture => String::new(),
            Way::Plain(plain) | Way::Lines(plain) => match &update {
                Update::State(_) => plain.update(board),
                Update::Line(line) => plain.log(board, line),
                Update::LogEnded(job) => plain.log_ended(board, *job),
                Update::Away => format!("{AWAY}\n"),
                Update::Back => format!("{BACK}\n"),
            },
            Way::Json => match &update {
                Update::State(event) => json_line(event)?,
                Update::Line(line) => json_line(&log_json(board, line))?,
                Update::LogEnded(_) | Update::Away | Update::Back => String::new(),
            },
        })
    }

    fn draw(&mut self, out: &mut Output) -> Result<(), Failure> {
        let (_, rows) = out.size();
        let asked = approval::how(&self.board.run, &self.place);
        let footer = if self.away {
            Some(AWAY)
        } else {
            self.footer.or(asked.as_deref())
        };
        let moment = Moment {
            look: out.look(),
            rows,
            now_ms: now_ms(),
            tick: self.tick,
            footer,
        };
        self.tick += 1;
        out.draw(&frame(&self.board, &moment))
    }

    /// Says in plain lines what the run waits for.
    fn waits(&mut self, out: &mut Output) -> Result<(), Failure> {
        match &mut self.way {
            Way::Plain(plain) => {
                let mut text = plain.waiting(&self.board);
                let how = approval::how(&self.board.run, &self.place);
                if let Some(how) = how.as_ref().filter(|_| how != self.asked) {
                    text.push_str(&format!("{how}\n"));
                }
                self.asked = how;
                out.text(&text)
            }
            _ => Ok(()),
        }
    }

    /// Shows the footer at once.
    fn notice(&mut self, out: &mut Output) -> Result<(), Failure> {
        match (&self.way, self.footer) {
            (Way::Picture, _) => self.draw(out),
            (Way::Plain(_), Some(footer)) => out.text(&format!("{footer}\n")),
            _ => Ok(()),
        }
    }

    /// Leaves the last picture without what holds no longer; the failure is told below it.
    fn give_up(&mut self, failure: &Failure, out: &mut Output) -> Result<(), Failure> {
        if !self.is_picture() || matches!(failure, Failure::Abandoned | Failure::OutputClosed) {
            return Ok(());
        }
        self.footer = None;
        self.away = false;
        self.draw(out)
    }

    fn end(&mut self, out: &mut Output, next: &Next, exit: Exit) -> Result<(), Failure> {
        let board = &self.board;
        match &mut self.way {
            Way::Picture => {
                out.clear()?;
                let title = out.look().colour.bold(&board.run.pipeline);
                let text = summary(board, out.look(), next, Tails::Repeat);
                out.text(&format!("{title}\n{text}"))
            }
            Way::Plain(plain) => {
                let rest = plain.update(board);
                let tails = if board.run.jobs.len() > 1 {
                    Tails::Repeat
                } else {
                    Tails::Omit
                };
                out.text(&format!(
                    "{rest}\n{}",
                    summary(board, out.look(), next, tails)
                ))
            }
            Way::Lines(plain) => out.text(&plain.update(board)),
            Way::Json => {
                out.json(&json!({"kind": "result", "exit_code": exit.code(), "run": board.run}))
            }
        }
    }
}

/// What is to be said about the way to the server.
fn notice(update: &Update) -> Option<&'static str> {
    match update {
        Update::Away => Some(AWAY),
        Update::Back => Some(BACK),
        _ => None,
    }
}

/// A value as a line of JSON.
pub(crate) fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(value);
    Ok(line.map_err(|error| Failure::engine("cannot write JSON", error))? + "\n")
}

/// A line of a log for programs.
pub(crate) fn log_json(board: &Board, line: &LogLine) -> serde_json::Value {
    let channel = match line.channel {
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
        Channel::System => "system",
        Channel::Command => "command",
    };
    let key = board.job(line.job).map(|job| job.key.as_str());
    json!({
        "kind": "log", "job": line.job, "key": key,
        "step": line.step, "channel": channel, "unix_ns": line.unix_ns, "text": line.text,
    })
}
