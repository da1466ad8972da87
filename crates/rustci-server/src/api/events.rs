//! Following a run: its states as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_core::Stream;
use futures_util::stream;
use telemetry::OpenStream;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::NotFound;
use crate::api::extract::Path;
use crate::api::health::failed;
use crate::api::problem::{ApiError, Listed};
use crate::api::runs::{number, say_why};
use crate::api::view::{JobView, RunEvent, Status, StreamEvent};
use crate::limits::{SSE_KEEPALIVE, SSE_PAUSE, SSE_RETRY};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows a run.
///
/// All states now, then each new one, then `end`, or `error` when no more of them will come. The
/// data of an event is a `RunEvent`, that of `error` a `Problem`.
#[utoipa::path(
    get, path = "/runs/{id}/events", operation_id = "follow_run", tag = "runs",
    params(
        ("id" = u64, Path, description = "Number of the run."),
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on behind this event."),
    ),
    responses(
        (status = 200, description = "Server-sent events.", content_type = "text/event-stream",
         body = StreamEvent),
        NotFound
    )
)]
async fn follow(
    State(app): State<App>,
    Path(run): Path<u64>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let since = last_event_id(&headers)?.unwrap_or(0);
    // Subscribed before the first look, so no change can fall between the two.
    let wake = app.queries.subscriptions().follow(run);
    let open = app.metrics.http.stream("run");
    let mut states = States {
        app,
        run,
        since,
        wake,
        ready: VecDeque::from([Event::default().retry(SSE_RETRY)]),
        loaded: Instant::now(),
        over: false,
        _open: open,
    };
    states.load().await?;
    let events = stream::unfold(states, |mut states| async {
        let event = states.next().await?;
        Some((Ok(event), states))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(SSE_KEEPALIVE)))
}

/// `Last-Event-ID`, which browsers and our CLI send when they come back.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = id.to_str().unwrap_or_default();
    number(text, "Last-Event-ID").map(Some)
}

struct States {
    app: App,
    run: u64,
    /// Number of the last change that was sent.
    since: u64,
    wake: watch::Receiver<()>,
    ready: VecDeque<Event>,
    /// When the catalogue was last asked.
    loaded: Instant,
    over: bool,
    _open: OpenStream,
}

impl States {
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if self.over {
                return None;
            }
            let change = tokio::select! {
                changed = self.wake.changed() => changed.map_err(|_| ApiError::Stopping),
                error = failed(&self.app) => Err(error),
            };
            // Under load a run changes thousands of times a second; who looks sees fifty of them.
            tokio::time::sleep_until(self.loaded + SSE_PAUSE).await;
            // Also after a failure: what came before it is still told, perhaps even the end.
            if let Err(error) = self.load().await.and(change)
                && !self.over
            {
                self.over = true;
                self.ready.extend(broken_off(&error));
            }
        }
        self.ready.pop_front()
    }

    /// Queues what changed. Of several states with one number only the last carries the id, so
    /// that a client which lost the connection between them gets all of them again.
    async fn load(&mut self) -> Result<(), ApiError> {
        self.wake.mark_unchanged();
        self.loaded = Instant::now();
        let (run, since) = (self.run, self.since);
        let found = self
            .app
            .queries
            .read(move |catalogue| catalogue.changes(run, since))
            .await?;
        let mut found = found.ok_or_else(|| ApiError::NotFound {
            listed: Listed::Runs,
            what: format!("run {run}"),
        })?;
        say_why(&self.app, jobs_in(&mut found.events)).await;
        let mut events = found.events.into_iter().peekable();
        while let Some((seq, event)) = events.next() {
            let last = events.peek().is_none_or(|(next, _)| *next != seq);
            self.ready.push_back(encode(&event, last.then_some(seq)));
            self.since = seq;
        }
        if found.run.status == Status::Finished
            && let Some(conclusion) = found.run.conclusion
        {
            self.ready
                .push_back(encode(&RunEvent::End { conclusion }, None));
            self.over = true;
        }
        Ok(())
    }
}

fn jobs_in(events: &mut [(u64, RunEvent)]) -> Vec<&mut JobView> {
    let jobs = events.iter_mut().filter_map(|(_, event)| match event {
        RunEvent::Job { job } => Some(job),
        _ => None,
    });
    jobs.collect()
}

/// The last event of a stream that ends before its time. A server that is shutting down says
/// nothing: whoever comes back with `Last-Event-ID` finds the next one.
pub(crate) fn broken_off(error: &ApiError) -> Option<Event> {
    let problem = match error {
        ApiError::Stopping => return None,
        error => error.to_problem(),
    };
    let data = serde_json::to_string(&problem).unwrap_or_default();
    Some(Event::default().event("error").data(data))
}

fn encode(event: &RunEvent, id: Option<u64>) -> Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    let frame = Event::default().event(event.name()).data(data);
    match id {
        Some(id) => frame.id(id.to_string()),
        None => frame,
    }
}
