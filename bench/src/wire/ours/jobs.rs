//! Many job streams of one connection, opened from both sides.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use valkyrie::{
    End, Endpoint, Event, Handler, Idle, Link, LinkConfig, MessageType, StreamId, connect, listen,
    serve, v2,
};

use super::node::{TCP, run};
use crate::wire::measure::Figures;
use crate::wire::place::Place;

/// Streams of one side, and the name of what a message on one of them costs then.
const STEPS: [(usize, &str); 4] = [
    (1, "job_cpu_us_at_1"),
    (10, "job_cpu_us_at_10"),
    (100, "job_cpu_us_at_100"),
    (450, "job_cpu_us_at_450"),
];

/// Messages with an acknowledgement, of both sides together.
const MESSAGES: u64 = 90_000;
/// As many before they count.
const WARM_UP: u64 = 9_000;

/// What both sides have done.
#[derive(Default)]
struct Course {
    streams: usize,
    acked: Cell<u64>,
    notify: Notify,
}

/// Opens its streams, and on each of them sends the next message when the last is acknowledged.
struct Jobs(Rc<Course>);

const KIND: MessageType = MessageType::JOB_COMPLETE;

impl Jobs {
    fn send(link: &Link, stream: StreamId) {
        let body = v2::JobComplete::default();
        // The connection may be gone; then nothing more is acknowledged, and the bench says so.
        let _ = link.session().job(stream, KIND, &body, End::No);
    }
}

impl Handler for Jobs {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Ready(_) => {
                for _ in 0..self.0.streams {
                    let opened = link.session().job_request(&v2::JobRequest::default());
                    if let Ok(stream) = opened {
                        Self::send(link, stream);
                    }
                }
            }
            Event::Job {
                stream,
                kind: KIND,
                correlation,
                ..
            } => {
                // As above.
                let _ = link.session().ack(stream, KIND, correlation, End::No);
            }
            Event::JobAcked { stream, .. } => {
                let acked = self.0.acked.get() + 1;
                self.0.acked.set(acked);
                if acked == WARM_UP || acked == WARM_UP + MESSAGES {
                    self.0.notify.notify_one();
                }
                Self::send(link, stream);
            }
            _ => {}
        }
    }
}

/// Processor time of both ends for a message and its acknowledgement.
pub(super) fn measure() -> Result<Figures> {
    STEPS
        .iter()
        .map(|&(streams, name)| Ok((name, step(streams)?)))
        .collect()
}

fn step(streams: usize) -> Result<f64> {
    run(Place::OneCore, Idle::Park, async {
        let course = Rc::new(Course {
            streams,
            ..Course::default()
        });
        let endpoint: Endpoint = TCP.parse()?;
        let listener = listen(&endpoint).await?;
        let at = listener.endpoint().clone();
        let other = Rc::clone(&course);
        spawn_local(serve(listener, LinkConfig::default(), move |_| {
            Jobs(Rc::clone(&other))
        }));
        let link = connect(&at, LinkConfig::default(), Jobs(Rc::clone(&course))).await?;
        course.notify.notified().await;
        let open = link.session().streams_open();
        let (before, acked) = (cpu_us()?, course.acked.get());
        course.notify.notified().await;
        let (time, acked) = (cpu_us()? - before, course.acked.get() - acked);
        // An acceptor has one number less: 102 to 998.
        let expected = 2 * streams - usize::from(streams == 450);
        ensure!(open == expected, "{open} of {expected} streams are open");
        Ok(time / acked as f64)
    })
}

fn cpu_us() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64);
    Ok(micros.iter().sum())
}
