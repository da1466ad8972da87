//! Publications one way, and queries.

use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Result;
use zenoh::{Session, Wait};

use super::{Known, Urgency, next, pair, publisher};
use crate::wire::CALLS_IN_FLIGHT;
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};

const MESSAGES: u64 = 1_500_000;
const CALLS: u64 = 50_000;

pub(super) fn one_way() -> Result<Figures> {
    let (server, client) = pair()?;
    let start = send(&server, &client, "messages", MESSAGES, MESSAGE_BYTES, || {})?;
    Ok(vec![("tcp_batch_msgs_per_s", per_second(MESSAGES, start))])
}

/// Sends `count` messages of `bytes`; gives the time at which it began, when the last has come.
/// `subscribed` is called before that.
pub(super) fn send(
    server: &Session,
    client: &Session,
    key: &'static str,
    count: u64,
    bytes: usize,
    subscribed: impl FnOnce(),
) -> Result<Instant> {
    let (done, all) = channel();
    let mut counting = Counting {
        tally: Tally::default(),
        count,
        done,
    };
    let _subscriber = server
        .declare_subscriber(key)
        .callback_mut(move |sample| counting.add(&sample.payload().to_bytes()))
        .wait()
        .known()?;
    let publisher = publisher(client, key, Urgency::Batched)?;
    subscribed();
    let mut payload = vec![0x5a; bytes];
    let start = Instant::now();
    for index in 0..count {
        crate::wire::measure::stamp(&mut payload, index);
        publisher.put(payload.as_slice()).wait().known()?;
    }
    next(&all)??.ensure(count, bytes)?;
    Ok(start)
}

/// Counts until it has all.
struct Counting {
    tally: Tally,
    count: u64,
    done: Sender<Result<Tally>>,
}

impl Counting {
    fn add(&mut self, message: &[u8]) {
        // Whoever waits may be gone.
        if let Err(error) = self.tally.add(message) {
            let _ = self.done.send(Err(error));
        }
        if self.tally.count == self.count {
            let _ = self.done.send(Ok(std::mem::take(&mut self.tally)));
        }
    }
}

pub(super) fn calls() -> Result<Figures> {
    let (server, client) = pair()?;
    let _queryable = server
        .declare_queryable("calls")
        .callback(|query| {
            let payload = query.payload().cloned().unwrap_or_default();
            // The caller notices when its answer is missing.
            let _ = query.reply("calls", payload).wait();
        })
        .wait()
        .known()?;
    let querier = client.declare_querier("calls").wait().known()?;
    crate::processes::wait_for("a queryable", || {
        let status = querier.matching_status().wait();
        status.is_ok_and(|status| status.matching())
    })?;
    let (answer, answers) = channel();
    let mut tally = Tally::default();
    let mut sent = 0;
    let start = Instant::now();
    while tally.count < CALLS {
        while sent < CALLS && sent - tally.count < CALLS_IN_FLIGHT {
            let answer = answer.clone();
            querier
                .get()
                .payload(message(sent))
                .callback(move |reply| {
                    let _ = answer.send(reply);
                })
                .wait()
                .known()?;
            sent += 1;
        }
        let reply = next(&answers)?;
        let sample = reply
            .into_result()
            .map_err(|error| anyhow::anyhow!("a query failed: {error:?}"))?;
        tally.add(&sample.payload().to_bytes())?;
    }
    let rate = per_second(CALLS, start);
    tally.ensure(CALLS, MESSAGE_BYTES)?;
    Ok(vec![("calls_256_per_s", rate)])
}
