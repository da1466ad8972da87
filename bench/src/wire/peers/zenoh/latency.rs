//! A publication there and one back, one at a time.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::Result;
use zenoh::{Session, Wait};

use super::{Known, Urgency, next, pair, publisher};
use crate::wire::measure::{Hist, WARM_UP, ensure_echo, message};
use crate::wire::place::Place;

pub(super) fn echo(rounds: usize, place: Place) -> Result<Hist> {
    // All sessions of a process share their threads, which are where the first one is opened.
    if place == Place::OneCore {
        place.pin_client()?;
    }
    let (server, client) = pair()?;
    let mut hist = Hist::new(rounds);
    exchange(&server, &client, |round, start| {
        if round >= WARM_UP {
            hist.since(start);
        }
        round + 1 < rounds + WARM_UP
    })?;
    Ok(hist)
}

/// Round trips until `each`, called after every one with its number and start, says no.
pub(super) fn exchange(
    server: &Session,
    client: &Session,
    mut each: impl FnMut(usize, Instant) -> bool,
) -> Result<()> {
    let (came, echoes) = sync_channel(16);
    let _back = client
        .declare_subscriber("back")
        .callback(move |sample| {
            // Whoever waits may be gone.
            let _ = came.try_send(sample);
        })
        .wait()
        .known()?;
    let back = publisher(server, "back", Urgency::Express)?;
    let _there = server
        .declare_subscriber("there")
        .callback(move |sample| {
            // The other end notices when its echo is missing.
            let _ = back.put(sample.payload().clone()).wait();
        })
        .wait()
        .known()?;
    let there = publisher(client, "there", Urgency::Express)?;
    for round in 0.. {
        let sent = message(round as u64);
        let start = Instant::now();
        there.put(sent).wait().known()?;
        let echo = next(&echoes)?;
        let goes_on = each(round, start);
        ensure_echo(&echo.payload().to_bytes(), round as u64)?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}
