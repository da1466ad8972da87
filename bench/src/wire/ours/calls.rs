//! Calls with many in flight on one connection.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::sync::Notify;
use valkyrie::{Event, Handler, Idle, Link, LinkConfig, connect};

use super::node::{CLASS, ECHO, run, sink};
use crate::wire::CALLS_IN_FLIGHT;
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};
use crate::wire::place::Place;

const CALLS: u64 = 2_000_000;

/// Makes the next call where one is answered.
struct Caller {
    made: u64,
    tally: Rc<Cell<Option<Tally>>>,
    came: Tally,
    done: Rc<Notify>,
}

impl Caller {
    fn call(&mut self, link: &Link) {
        if self.made < CALLS {
            let called = link.session().call(CLASS, ECHO, &message(self.made), None);
            self.made += u64::from(called.is_ok());
        }
    }
}

impl Handler for Caller {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Ready(_) => (0..CALLS_IN_FLIGHT).for_each(|_| self.call(link)),
            Event::Reply { body, .. } => {
                if self.came.add(&body).is_err() {
                    return;
                }
                self.call(link);
                if self.came.count == CALLS {
                    self.tally.set(Some(std::mem::take(&mut self.came)));
                    self.done.notify_one();
                }
            }
            _ => {}
        }
    }
}

pub(super) fn measure() -> Result<Figures> {
    let at = sink(Place::TwoCores, Idle::Park, LinkConfig::default)?;
    run(Place::TwoCores, Idle::Park, async {
        let (tally, done) = (Rc::new(Cell::new(None)), Rc::new(Notify::new()));
        let caller = Caller {
            made: 0,
            tally: Rc::clone(&tally),
            came: Tally::default(),
            done: Rc::clone(&done),
        };
        let start = Instant::now();
        let _link = connect(&at, LinkConfig::default(), caller).await?;
        done.notified().await;
        let rate = per_second(CALLS, start);
        let tally = tally.take();
        ensure!(tally.is_some(), "the connection ended");
        tally.unwrap_or_default().ensure(CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}
