//! Follows a run: its changes and all its logs as one stream of updates.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::Api;
use super::sse::Event;
use super::view::{JobView, LogLine as LineView, RunEvent, RunView};
use crate::failure::Failure;
use crate::render::board::{Channel, LogLine};

/// What happened next.
#[derive(Debug)]
pub(crate) enum Update {
    /// The run, a job or a step changed.
    State(Box<RunEvent>),
    /// A job printed a line.
    Line(LogLine),
    /// The log of an attempt of this job is complete.
    LogEnded(u64),
    /// The server cannot be reached; it is tried again.
    Away,
    /// The server has been reached again.
    Back,
}

/// Which logs are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Logs {
    /// Those of all jobs.
    All,
    /// Those of these jobs.
    Of(BTreeSet<u64>),
}

impl Logs {
    fn include(&self, job: u64) -> bool {
        match self {
            Self::All => true,
            Self::Of(jobs) => jobs.contains(&job),
        }
    }
}

/// Updates that may wait for the terminal; the server's stream waits when it is full.
const UPDATES_MAX: usize = 4_096;
/// How long an interrupted stream is tried to get back, and one answer to that waited for.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Failed tries after which the server counts as away: a restart is quicker.
const AWAY_TRIES: u32 = 4;

/// A run as it was when following began, and what happens from then on.
#[derive(Debug)]
pub(crate) struct Followed {
    /// The first state.
    pub(crate) run: RunView,
    updates: mpsc::Receiver<Result<Update, Failure>>,
    // Dropping it ends all tasks.
    _tasks: JoinSet<()>,
}

impl Followed {
    /// The next update; none when the run has ended and all its logs are complete.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// What ended the stream before its time.
    pub(crate) async fn next(&mut self) -> Result<Option<Update>, Failure> {
        self.updates.recv().await.transpose()
    }

    /// An update that is there already.
    pub(crate) fn ready(&mut self) -> Option<Result<Update, Failure>> {
        self.updates.try_recv().ok()
    }
}

/// Begins to follow `run`; none if there is no such run.
///
/// # Errors
/// As [`Api::find`].
pub(crate) async fn follow(api: &Api, run: u64, logs: Logs) -> Result<Option<Followed>, Failure> {
    let path = format!("/api/v1/runs/{run}/events");
    let found = api.find::<RunView>(&format!("/api/v1/runs/{run}")).await?;
    let Some(view) = found else { return Ok(None) };
    // The stream begins with all states of its own start, so nothing is missed in between, and
    // nothing on it is older than the view.
    let Some(events) = api.events(&path, None).await? else {
        return Ok(None);
    };
    let (sender, updates) = mpsc::channel(UPDATES_MAX);
    let source = Reconnecting {
        api: api.clone(),
        path,
        events: Some(events),
        opened: Instant::now(),
        last: None,
        is_away: false,
        away: Some(sender.clone()),
    };
    let mut follower = Follower {
        api: api.clone(),
        run,
        logs,
        sender,
        followed: HashSet::new(),
        tasks: JoinSet::new(),
    };
    for job in &view.jobs {
        follower.open_logs(job);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(follower.work(source));
    Ok(Some(Followed {
        run: view,
        updates,
        _tasks: tasks,
    }))
}

/// A stream of events that is taken up again where it broke off.
struct Reconnecting {
    api: Api,
    path: String,
    events: Option<super::client::Events>,
    /// When `events` began.
    opened: Instant,
    last: Option<String>,
    /// Who is told that the server is away; one stream of a run does this for all.
    away: Option<mpsc::Sender<Result<Update, Failure>>>,
    /// Whether that was told.
    is_away: bool,
}

impl Reconnecting {
    /// The next event; none at the end.
    async fn next(&mut self) -> Result<Option<Event>, Failure> {
        let mut tries = 0;
        let mut lost_at = None;
        loop {
            match self.attempt().await {
                Ok(Some(event)) => {
                    if !event.id.is_empty() {
                        self.last = Some(event.id.clone());
                    }
                    return Ok(Some(event));
                }
                Ok(None) => return Ok(None),
                Err(error @ (Failure::Interrupted { .. } | Failure::Unreachable { .. })) => {
                    if self.events.take().is_some() && self.opened.elapsed() > AWAY_MAX {
                        // It was back and quiet in between: this is another interruption.
                        (tries, lost_at) = (0, None);
                    }
                    tries += 1;
                    if lost_at.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX {
                        return Err(lost(error, &self.api));
                    }
                    if tries == AWAY_TRIES {
                        self.is_away = true;
                        self.tell(Update::Away).await;
                    }
                    tokio::time::sleep(Duration::from_millis(100 << tries.min(5))).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn tell(&mut self, update: Update) {
        if let Some(sender) = &self.away {
            // Nobody listens any more if this fails, and the next event finds that out.
            let _ = sender.send(Ok(update)).await;
        }
    }

    async fn attempt(&mut self) -> Result<Option<Event>, Failure> {
        if self.events.is_none() {
            let events = self.api.events(&self.path, self.last.as_deref());
            let answer = tokio::time::timeout(AWAY_MAX, events).await;
            self.events = answer.map_err(|_| silent(&self.api))??;
            self.opened = Instant::now();
            if std::mem::take(&mut self.is_away) {
                self.tell(Update::Back).await;
            }
        }
        match &mut self.events {
            Some(events) => events.next().await,
            None => Ok(None),
        }
    }
}

fn silent(api: &Api) -> Failure {
    Failure::Unreachable {
        server: api.place().to_owned(),
        cause: "no answer".to_owned(),
    }
}

/// What it means for a run that is followed that its server is away.
fn lost(error: Failure, api: &Api) -> Failure {
    match error {
        Failure::Unreachable { server, cause } => Failure::Interrupted {
            server,
            arguments: api.arguments().to_owned(),
            cause,
        },
        other => other,
    }
}

struct Follower {
    api: Api,
    run: u64,
    logs: Logs,
    sender: mpsc::Sender<Result<Update, Failure>>,
    followed: HashSet<(u64, u32)>,
    tasks: JoinSet<()>,
}

impl Follower {
    async fn work(mut self, mut source: Reconnecting) {
        let result = self.events(&mut source).await;
        if let Err(error) = result {
            // Nobody listens any more if this fails.
            let _ = self.sender.send(Err(error)).await;
            return;
        }
        while self.tasks.join_next().await.is_some() {}
    }

    async fn events(&mut self, source: &mut Reconnecting) -> Result<(), Failure> {
        while let Some(event) = source.next().await? {
            let event: RunEvent = serde_json::from_str(&event.data)
                .map_err(|error| source.api.not_understood(&error))?;
            if let RunEvent::Job { job } = &event {
                self.open_logs(job);
            }
            let ended = matches!(event, RunEvent::End { .. });
            if self
                .sender
                .send(Ok(Update::State(Box::new(event))))
                .await
                .is_err()
                || ended
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open_logs(&mut self, job: &JobView) {
        if !self.logs.include(job.id) {
            return;
        }
        for attempt in &job.attempts {
            if self.followed.insert((job.id, attempt.number)) {
                let path = log_path(self.run, job.id, Some(attempt.number), "&follow=true");
                let source = Reconnecting {
                    api: self.api.clone(),
                    path,
                    events: None,
                    opened: Instant::now(),
                    last: None,
                    is_away: false,
                    away: None,
                };
                self.tasks.spawn(log(source, job.id, self.sender.clone()));
            }
        }
    }
}

/// Sends the lines of one log, and that it has ended.
async fn log(mut source: Reconnecting, job: u64, sender: mpsc::Sender<Result<Update, Failure>>) {
    let mut lines = Lines::new(job);
    let result = loop {
        let event = match source.next().await {
            Ok(Some(event)) => event,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        if event.name == "end" {
            break Ok(());
        }
        match serde_json::from_str::<LineView>(&event.data) {
            Ok(record) => {
                let Some(line) = lines.take(&record) else {
                    continue;
                };
                if sender.send(Ok(Update::Line(line))).await.is_err() {
                    return;
                }
            }
            Err(error) => break Err(source.api.not_understood(&error)),
        }
    };
    for line in lines.rest() {
        let _ = sender.send(Ok(Update::Line(line))).await;
    }
    let _ = sender.send(result.map(|()| Update::LogEnded(job))).await;
}

/// The path of a job's log.
pub(crate) fn log_path(run: u64, job: u64, attempt: Option<u32>, more: &str) -> String {
    let attempt = attempt.map(|number| number.to_string()).unwrap_or_default();
    let attempt = if attempt.is_empty() {
        attempt
    } else {
        format!("attempt={attempt}")
    };
    format!("/api/v1/runs/{run}/jobs/{job}/log?{attempt}{more}")
}

/// A line longer than this is shown in parts.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Joins records to lines.
#[derive(Debug)]
pub(crate) struct Lines {
    job: u64,
    open: HashMap<(Option<u16>, Channel), LogLine>,
}

impl Lines {
    /// For the log of `job`.
    pub(crate) fn new(job: u64) -> Self {
        Self {
            job,
            open: HashMap::new(),
        }
    }

    /// Takes a record; gives the line it completes.
    pub(crate) fn take(&mut self, record: &LineView) -> Option<LogLine> {
        let channel = match record.channel.as_str() {
            "stderr" => Channel::Stderr,
            "system" => Channel::System,
            "command" => Channel::Command,
            _ => Channel::Stdout,
        };
        let place = (record.step, channel);
        let mut line = self.open.remove(&place).unwrap_or_else(|| LogLine {
            job: self.job,
            step: record.step,
            channel,
            unix_ns: record.unix_ns,
            text: String::new(),
        });
        line.text.push_str(&record.text);
        line.unix_ns = record.unix_ns;
        if record.continues && line.text.len() < LINE_BYTES_MAX {
            self.open.insert(place, line);
            return None;
        }
        Some(line)
    }

    /// What never got its line end.
    pub(crate) fn rest(self) -> Vec<LogLine> {
        self.open.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(channel: &str, text: &str) -> LineView {
        let channel = channel.to_owned();
        let text = text.to_owned();
        LineView {
            offset: 0,
            next: 0,
            unix_ns: 0,
            step: Some(0),
            channel,
            text,
            continues: false,
        }
    }

    fn begun(channel: &str, text: &str) -> LineView {
        LineView {
            continues: true,
            ..record(channel, text)
        }
    }

    #[test]
    fn records_join_per_channel() {
        let mut lines = Lines::new(1);
        assert_eq!(lines.take(&begun("stdout", "a")), None);
        let between = lines.take(&record("stderr", "warning")).unwrap();
        assert_eq!(
            (between.channel, between.text.as_str()),
            (Channel::Stderr, "warning")
        );
        assert_eq!(lines.take(&record("stdout", "b")).unwrap().text, "ab");
        assert_eq!(lines.take(&begun("stdout", "$ ")), None);
        assert_eq!(lines.rest().len(), 1);
    }

    #[test]
    fn paths_name_the_attempt_if_there_is_one() {
        assert_eq!(
            log_path(1, 2, None, "&tail=9"),
            "/api/v1/runs/1/jobs/2/log?&tail=9"
        );
        let path = log_path(1, 2, Some(3), "&follow=true");
        assert_eq!(path, "/api/v1/runs/1/jobs/2/log?attempt=3&follow=true");
    }
}
