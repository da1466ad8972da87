//! Starts registered pipelines at their times.
//!
//! A time is written into the journal together with the run that it starts, so none is used twice.
//! Of the times that went by while no server ran only the newest is made up for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustci_pipeline::Cron;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::registered::Registered;
use super::start::{Trigger, new_run};
use crate::api::{ApiError, plan};
use crate::engine::{Begun, CRON, EngineHandle, Firing, PIPELINE, document_time};

/// The wall clock is looked at this often, whatever the next time is: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// After an error of the journal or a full queue.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Missed times that are counted to find the newest; after that any of them will do.
const MISSED_MAX: usize = 100_000;

/// The wall clock of schedules, in Unix milliseconds.
#[derive(Clone)]
pub struct CronClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl CronClock {
    /// A clock that somebody else moves, for tests.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    fn now(&self) -> u64 {
        (self.0)()
    }
}

impl Default for CronClock {
    /// The clock of the machine.
    fn default() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
        })
    }
}

impl fmt::Debug for CronClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CronClock")
    }
}

/// The clock of the schedules, and what makes them look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedules {
    clock: CronClock,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    changed: Notify,
    stop: Notify,
}

impl Schedules {
    /// With the clock of the machine unless there is another one.
    pub(crate) fn of(clock: Option<CronClock>) -> Self {
        Self {
            clock: clock.unwrap_or_default(),
            shared: Arc::default(),
        }
    }

    /// Unix milliseconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Looks at the schedules soon: pipelines have changed.
    pub(crate) fn wake(&self) {
        self.shared.changed.notify_one();
    }
}

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(crate) struct CronThread {
    schedules: Schedules,
    thread: Option<JoinHandle<()>>,
}

impl CronThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread or runtime.
    pub(crate) fn start(engine: EngineHandle, schedules: Schedules) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let own = schedules.clone();
        let thread = std::thread::Builder::new()
            .name("cron".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = run(&engine, &own) => {}
                        () = own.shared.stop.notified() => {}
                    }
                });
            })?;
        Ok(Self {
            schedules,
            thread: Some(thread),
        })
    }
}

impl Drop for CronThread {
    fn drop(&mut self) {
        self.schedules.shared.stop.notify_one();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of schedules did not end well");
        }
    }
}

/// Fires what is due, then waits for the next time or a change.
async fn run(engine: &EngineHandle, schedules: &Schedules) {
    let mut table = Table::default();
    loop {
        let wait = match turn(engine, schedules, &mut table).await {
            Ok(next) => next
                .map(|next| Duration::from_millis(next.saturating_sub(schedules.now())))
                .map_or(LOOK_AGAIN, |wait| wait.min(LOOK_AGAIN)),
            Err(ApiError::Stopping) => return,
            Err(error) => {
                tracing::warn!(%error, "schedules could not be looked at");
                TRY_AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = schedules.shared.changed.notified() => {}
        }
    }
}

/// Fires what is due. Says when something is due next.
async fn turn(
    engine: &EngineHandle,
    schedules: &Schedules,
    table: &mut Table,
) -> Result<Option<u64>, ApiError> {
    let pipelines = engine.documents(PIPELINE).await?;
    table.update(&pipelines);
    let fired = engine.documents(CRON).await?;
    let fired = fired
        .into_iter()
        .filter_map(|(key, value)| Some((key, document_time(&value)?)))
        .collect();
    let now = schedules.now();
    for due in table.due(&fired, now) {
        fire(engine, &due).await?;
    }
    Ok(table.next(now))
}

/// Starts one run. What is wrong with the pipeline is told in the server's log; the time is gone.
async fn fire(engine: &EngineHandle, due: &Due) -> Result<(), ApiError> {
    let mut event = Map::new();
    event.insert("name".to_owned(), Value::from("cron"));
    event.insert("schedule".to_owned(), Value::from(due.schedule.clone()));
    event.insert("at_ms".to_owned(), Value::from(due.at_ms));
    let trigger = Trigger {
        event,
        ..Trigger::default()
    };
    let made = new_run(&due.pipeline, trigger).await.and_then(plan);
    if let Err(error) = &made {
        tracing::warn!(pipeline = due.pipeline.name, %error, "a timed run could not be made");
    }
    let firing = Firing {
        key: due.key.clone(),
        at_ms: due.at_ms,
        submission: made.ok().map(Box::new),
    };
    let lost = firing.submission.is_none();
    match engine.fire(firing).await {
        Ok(Begun::New(run)) => {
            tracing::info!(pipeline = due.pipeline.name, run = run.id, "timed run");
        }
        Ok(Begun::Known(_)) => {}
        Err(error @ (ApiError::Stopping | ApiError::Storage(_) | ApiError::Overloaded)) => {
            return Err(error);
        }
        Err(_) if lost => {}
        Err(error) => {
            tracing::warn!(pipeline = due.pipeline.name, %error, "a timed run was not started");
        }
    }
    Ok(())
}

/// The schedules of all pipelines.
#[derive(Debug, Default)]
struct Table(BTreeMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    registered: Arc<Registered>,
    schedules: Vec<Cron>,
}

/// A time that has come.
#[derive(Debug)]
struct Due {
    key: String,
    schedule: String,
    at_ms: u64,
    pipeline: Arc<Registered>,
}

impl Table {
    /// Takes over what is registered now; what has not changed is not read again.
    fn update(&mut self, documents: &[(String, Vec<u8>)]) {
        let mut before = std::mem::take(&mut self.0);
        for (name, bytes) in documents {
            let known = before.remove(name).filter(|entry| entry.bytes == *bytes);
            let entry = known.map(Some).unwrap_or_else(|| Entry::read(bytes));
            if let Some(entry) = entry {
                self.0.insert(name.clone(), entry);
            }
        }
    }

    /// The newest time of each schedule that has come since it was last used, or since the
    /// pipeline was registered.
    fn due(&self, fired: &BTreeMap<String, u64>, now_ms: u64) -> Vec<Due> {
        let mut due = Vec::new();
        for (name, entry) in &self.0 {
            for cron in &entry.schedules {
                let key = format!("{name}/{}", cron.name());
                let since = fired.get(&key).copied().unwrap_or_default();
                let since = since.max(entry.registered.updated_ms);
                if let Some(at_ms) = newest(cron, since, now_ms) {
                    due.push(Due {
                        key,
                        schedule: cron.name().to_owned(),
                        at_ms,
                        pipeline: Arc::clone(&entry.registered),
                    });
                }
            }
        }
        due
    }

    /// When the next time comes.
    fn next(&self, now_ms: u64) -> Option<u64> {
        let schedules = self.0.values().flat_map(|entry| &entry.schedules);
        schedules.filter_map(|cron| cron.next_after(now_ms)).min()
    }
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Self> {
        let registered = Registered::from_bytes(bytes);
        let registered = registered
            .inspect_err(|error| tracing::error!(%error))
            .ok()?;
        Some(Self {
            bytes: bytes.to_vec(),
            schedules: registered.schedules(),
            registered: Arc::new(registered),
        })
    }
}

/// The newest time of a schedule after `since`, up to `now`.
fn newest(cron: &Cron, since: u64, now: u64) -> Option<u64> {
    let mut found = None;
    let mut from = since;
    for _ in 0..MISSED_MAX {
        match cron.next_after(from).filter(|next| *next <= now) {
            Some(next) => {
                found = Some(next);
                from = next;
            }
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::{NewPipeline, PipelineText};

    const MINUTE: u64 = 60_000;

    fn document(name: &str, schedule: &str, at_ms: u64) -> (String, Vec<u8>) {
        let text = format!(
            "on: {{ cron: [{{ name: tick, schedule: \"{schedule}\" }}] }}\n\
             jobs: {{ a: {{ steps: [{{ run: make }}] }} }}\n"
        );
        let new = NewPipeline {
            pipeline: PipelineText {
                file: "ci.yaml".to_owned(),
                text,
                includes: BTreeMap::new(),
            },
            ..NewPipeline::default()
        };
        let registered = Registered::new(new, Some(name.to_owned()), at_ms).unwrap();
        (name.to_owned(), registered.to_bytes().unwrap())
    }

    #[test]
    fn a_time_is_due_once_it_has_come_and_was_not_used() {
        let mut table = Table::default();
        table.update(&[document("a", "*/5 * * * *", MINUTE)]);
        let mut fired = BTreeMap::new();
        assert!(table.due(&fired, 5 * MINUTE - 1).is_empty());
        assert_eq!(table.next(5 * MINUTE - 1), Some(5 * MINUTE));
        let due = table.due(&fired, 5 * MINUTE);
        assert_eq!((due[0].key.as_str(), due[0].at_ms), ("a/tick", 5 * MINUTE));
        fired.insert("a/tick".to_owned(), 5 * MINUTE);
        assert!(table.due(&fired, 10 * MINUTE - 1).is_empty());
        assert_eq!(table.due(&fired, 10 * MINUTE).len(), 1);
    }

    #[test]
    fn of_missed_times_only_the_newest_is_made_up_for() {
        let mut table = Table::default();
        table.update(&[document("a", "0 * * * *", 0), document("b", "0 0 1 1 *", 0)]);
        let due = table.due(&BTreeMap::new(), 200 * MINUTE);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].at_ms, 180 * MINUTE);
        table.update(&[]);
        assert!(table.due(&BTreeMap::new(), 200 * MINUTE).is_empty());
    }

    #[test]
    fn times_before_the_registration_do_not_count() {
        let mut table = Table::default();
        table.update(&[document("a", "* * * * *", 90 * MINUTE)]);
        assert!(table.due(&BTreeMap::new(), 90 * MINUTE).is_empty());
        assert_eq!(table.due(&BTreeMap::new(), 91 * MINUTE).len(), 1);
    }
}
