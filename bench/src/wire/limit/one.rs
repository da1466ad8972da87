//! Over one connection.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;

use crate::wire::frame::{HEADER_BYTES, Inbox, WRITE_BYTES, put};
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};
use crate::wire::place::{connected, join, thread};

const MESSAGES: u64 = 20_000_000;

pub(crate) fn run() -> Result<Figures> {
    let (mut sender, mut receiver) = connected()?;
    let start = Instant::now();
    let sender = thread(move || {
        let mut out = Vec::with_capacity(WRITE_BYTES);
        for index in 0..MESSAGES {
            put(&mut out, 1, &message(index));
            if out.len() + HEADER_BYTES + MESSAGE_BYTES > WRITE_BYTES {
                sender.write_all(&out)?;
                out.clear();
            }
        }
        Ok(sender.write_all(&out)?)
    });
    let mut inbox = Inbox::new();
    let mut tally = Tally::default();
    while tally.count < MESSAGES {
        inbox.read(&mut receiver, |_, payload| tally.add(payload))?;
    }
    let rate = per_second(MESSAGES, start);
    join(sender)?;
    tally.ensure(MESSAGES, MESSAGE_BYTES)?;
    Ok(vec![("tcp_batch_msgs_per_s", rate)])
}
