//! Reading logs: lines as JSON, raw records, or a live stream.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use valkyrie_frame::log::LogRecord;

use crate::api::App;
use crate::api::answers::{NotFound, Unprocessable};
use crate::api::events::{broken_off, last_event_id};
use crate::api::extract::{Path, Query};
use crate::api::health::failed;
use crate::api::problem::{ApiError, Listed};
use crate::api::runs::find;
use crate::api::view::{JobView, LogLine, Status, StreamEvent};
use crate::limits::{LOG_TAIL_LINES_MAX, SSE_KEEPALIVE, SSE_RETRY};
use crate::logs::{LogKey, LogReader, LogTail, ReadError, ReadLine};

/// The query of a log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Number of the attempt; the newest without.
    attempt: Option<u32>,
    /// Begins at this byte of the log: one of the offsets that the server gave out.
    offset: Option<u64>,
    /// Begins so many lines before the end.
    tail: Option<u64>,
    /// Stays until the attempt is over; a job that has no attempt yet is waited for.
    #[serde(default)]
    #[param(inline, required = false)]
    follow: Follow,
}

/// Whether to stay until the attempt is over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Follow {
    #[serde(alias = "1", alias = "yes")]
    True,
    #[default]
    #[serde(alias = "0", alias = "no")]
    False,
}

/// How the caller wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    JsonLines,
    Sse,
    Raw,
}

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read))
}

/// Reads or follows the log of a job.
///
/// `Accept` chooses between one `LogLine` per line of JSON, the same as server-sent events, and
/// the records as they are stored.
#[utoipa::path(
    get, path = "/runs/{id}/jobs/{job}/log", operation_id = "read_log", tag = "logs",
    params(
        ("id" = u64, Path, description = "Number of the run."),
        ("job" = String, Path, description = "Number or key of the job."),
        LogQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on at this byte of the log."),
    ),
    responses(
        (status = 200, description = "The log.", content(
            (String = "application/jsonl"),
            (StreamEvent = "text/event-stream"),
            (String = "application/octet-stream"),
        )),
        NotFound,
        Unprocessable
    )
)]
async fn read(
    State(app): State<App>,
    Path((run, job)): Path<(u64, String)>,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut wake = app.queries.subscriptions().follow(run);
    let attempt = find_attempt(&app, &mut wake, (run, &job), &query).await?;
    let offset = last_event_id(&headers)?.or(query.offset);
    let tail = app.logs.follow(attempt.key);
    let reader = LogReader::new(app.logs.path(attempt.key));
    let mut log = OpenLog {
        app,
        attempt,
        tail,
        wake,
        reader,
        follow: query.follow,
        looked: 0,
        broken: None,
    };
    log.place(offset, query.tail)?;
    Ok(match format(&headers) {
        Format::Sse => live(log),
        Format::JsonLines => json_lines(log),
        Format::Raw => raw(log),
    })
}

fn format(headers: &HeaderMap) -> Format {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    if accept.contains("text/event-stream") {
        Format::Sse
    } else if accept.contains("application/octet-stream") {
        Format::Raw
    } else {
        Format::JsonLines
    }
}

/// The attempt whose log is read.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    key: LogKey,
    /// Whether no byte will follow.
    over: bool,
}

/// The attempt asked for, or the newest. Who follows a job that has none yet waits for it.
async fn find_attempt(
    app: &App,
    wake: &mut watch::Receiver<()>,
    (run, job): (u64, &str),
    query: &LogQuery,
) -> Result<Attempt, ApiError> {
    loop {
        wake.mark_unchanged();
        let view = find(app, run).await?;
        let missing = || ApiError::NotFound {
            listed: Listed::Jobs,
            what: format!("job {job:?} in run {run}"),
        };
        let view = view
            .jobs
            .into_iter()
            .find(|view| is_called(view, job))
            .ok_or_else(missing)?;
        if let Some(attempt) = pick(run, &view, query.attempt) {
            return Ok(attempt);
        }
        if query.follow == Follow::False || view.status == Status::Finished {
            return Err(no_attempt(&view, query.attempt));
        }
        tokio::select! {
            changed = wake.changed() => changed.map_err(|_| ApiError::Stopping)?,
            error = failed(app) => return Err(error),
        }
    }
}

pub(super) fn is_called(view: &JobView, job: &str) -> bool {
    view.key == job || job.parse() == Ok(view.id)
}

fn pick(run: u64, job: &JobView, number: Option<u32>) -> Option<Attempt> {
    let wanted = |attempt: u32| number.is_none_or(|number| number == attempt);
    let attempt = job
        .attempts
        .iter()
        .rfind(|attempt| wanted(attempt.number))?;
    let over = attempt.status == Status::Finished;
    Some(Attempt {
        key: LogKey {
            run,
            job: job.id,
            attempt: attempt.number,
        },
        over,
    })
}

fn no_attempt(job: &JobView, number: Option<u32>) -> ApiError {
    let what = match number {
        Some(number) => format!("attempt {number} of job {}", job.key),
        None => format!("log of job {}, which had no attempt", job.key),
    };
    ApiError::NotFound {
        listed: Listed::Jobs,
        what,
    }
}

/// A log being sent to one client.
struct OpenLog {
    app: App,
    attempt: Attempt,
    tail: watch::Receiver<LogTail>,
    /// Wakes when the run changes, and with it perhaps the attempt.
    wake: watch::Receiver<()>,
    reader: LogReader,
    follow: Follow,
    /// Up to here nothing more was readable: the bytes of a record that is not whole yet.
    looked: u64,
    /// Why it ends before its time.
    broken: Option<ApiError>,
}

impl OpenLog {
    fn place(&mut self, offset: Option<u64>, lines: Option<u64>) -> Result<(), ReadError> {
        let end = self.tail.borrow().durable;
        match (offset, lines) {
            (Some(offset), _) => self.reader.seek(offset),
            (None, Some(lines)) => self.reader.seek_tail(lines.min(LOG_TAIL_LINES_MAX), end),
            (None, None) => Ok(()),
        }
    }

    /// Waits until there is something to read and says up to where; `None` at the end, which
    /// has come too early when `broken` says why.
    async fn readable(&mut self) -> Option<u64> {
        loop {
            // Asked before the length, or the last bytes of an attempt could be missed.
            let over = self.attempt.over;
            let LogTail { durable, finished } = *self.tail.borrow_and_update();
            if durable > self.reader.position().max(self.looked) {
                self.looked = durable;
                return Some(durable);
            }
            if over || finished || self.follow == Follow::False {
                return None;
            }
            if let Err(error) = self.changed().await {
                self.broken = Some(error);
                return None;
            }
        }
    }

    async fn changed(&mut self) -> Result<(), ApiError> {
        tokio::select! {
            changed = self.tail.changed() => changed.map_err(|_| ApiError::Stopping),
            changed = self.wake.changed() => {
                changed.map_err(|_| ApiError::Stopping)?;
                let LogKey { run, job, attempt } = self.attempt.key;
                let view = find(&self.app, run).await?;
                let view = view.jobs.iter().find(|view| view.id == job);
                let known = view.and_then(|view| pick(run, view, Some(attempt)));
                self.attempt = known.unwrap_or(self.attempt);
                Ok(())
            }
            error = failed(&self.app) => Err(error),
        }
    }

    /// The next records as they lie in the file. At most 64 KiB at once, and nearly always from
    /// the page cache, so they are read here and not on another thread.
    async fn raw(&mut self) -> Option<Bytes> {
        loop {
            let end = self.readable().await?;
            match self.reader.read(end).map(Bytes::copy_from_slice) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(self.taken(bytes)),
                Err(error) => return self.unreadable(error),
            }
        }
    }

    /// The next lines, each turned into `out` by `encode`.
    async fn lines<T>(&mut self, encode: impl Fn(&ReadLine<'_>, &mut T), mut out: T) -> Option<T> {
        loop {
            let end = self.readable().await?;
            let before = self.reader.position();
            match self.reader.read_lines(end, |line| encode(&line, &mut out)) {
                Ok(()) if self.reader.position() == before => {}
                Ok(()) => return Some(self.taken(out)),
                Err(error) => return self.unreadable(error),
            }
        }
    }

    /// After bytes were read there may be more up to the same end.
    fn taken<T>(&mut self, out: T) -> T {
        self.looked = self.reader.position();
        out
    }

    /// The answer has begun, so all that can be done is to end it early.
    fn unreadable<T>(&mut self, error: ReadError) -> Option<T> {
        tracing::error!(log = %self.attempt.key, %error, "a log could not be read on");
        self.broken = Some(error.into());
        None
    }

    /// What follows the last bytes of a body: nothing, or an error, which cuts the connection so
    /// that nobody takes the body for whole.
    fn end(mut self) -> Option<(Result<Bytes, ApiError>, Option<Self>)> {
        self.broken.take().map(|error| (Err(error), None))
    }
}

fn view(line: &ReadLine<'_>) -> LogLine {
    let LogRecord {
        unix_ns,
        step,
        channel,
        bytes,
    } = line.record;
    LogLine {
        offset: line.offset,
        next: line.next,
        unix_ns,
        step: Some(step).filter(|step| *step != LogRecord::JOB),
        channel: channel.name().to_owned(),
        text: String::from_utf8_lossy(bytes).into_owned(),
        continues: channel.is_partial(),
    }
}

fn json_lines(log: OpenLog) -> Response {
    let lines = stream::unfold(Some(log), |log| async {
        let mut log = log?;
        match log.lines(json_line, Vec::new()).await {
            Some(bytes) => Some((Ok(Bytes::from(bytes)), Some(log))),
            None => log.end(),
        }
    });
    body("application/jsonl", Body::from_stream(lines))
}

fn json_line(line: &ReadLine<'_>, out: &mut Vec<u8>) {
    // Writing plain data to memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &view(line));
    out.push(b'\n');
}

fn raw(log: OpenLog) -> Response {
    let records = stream::unfold(Some(log), |log| async {
        let mut log = log?;
        match log.raw().await {
            Some(bytes) => Some((Ok(bytes), Some(log))),
            None => log.end(),
        }
    });
    body("application/octet-stream", Body::from_stream(records))
}

fn body(kind: &'static str, body: Body) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

/// One event per line, then `end`, or `error` when it breaks off. The id is the offset behind the line, so a client that comes
/// back with it misses nothing and sees nothing twice.
fn live(log: OpenLog) -> Response {
    let open = log.app.metrics.http.stream("log");
    let batches = stream::unfold(Some((log, open)), |log| async {
        let (mut log, open) = log?;
        match log.lines(event, Vec::new()).await {
            Some(events) => Some((events, Some((log, open)))),
            None => Some((last(log.broken.as_ref()), None)),
        }
    });
    let retry = stream::iter([Ok(Event::default().retry(SSE_RETRY))]);
    let events = batches.flat_map(|events| stream::iter(events).map(Ok::<_, Infallible>));
    let events = retry.chain(events);
    Sse::new(events)
        .keep_alive(KeepAlive::new().interval(SSE_KEEPALIVE))
        .into_response()
}

fn last(broken: Option<&ApiError>) -> Vec<Event> {
    let event = match broken {
        Some(error) => broken_off(error),
        None => Some(Event::default().event("end").data("{}")),
    };
    event.into_iter().collect()
}

fn event(line: &ReadLine<'_>, out: &mut Vec<Event>) {
    let data = serde_json::to_string(&view(line)).unwrap_or_default();
    out.push(
        Event::default()
            .event("line")
            .id(line.next.to_string())
            .data(data),
    );
}
