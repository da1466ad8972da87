//! A runner: its spool, its processes, and the attempts inside.

mod attempts;
mod process;

use std::collections::BTreeMap;

use rustci_scheduler::AttemptToken;
use valkyrie_frame::Time;

use crate::{
    net::{ConnId, End},
    world::{Event, World},
};
pub(crate) use attempts::Spool;
use process::Process;

/// The machine of a runner.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) number: usize,
    name: String,
    /// Survives the processes.
    pub(crate) spool: Spool,
    life: u64,
    process: Option<Process>,
    pub(crate) paused_until: Time,
}

impl Runner {
    /// A machine named for its number; a clone has the name of another and a number of its own.
    pub(crate) fn new(number: usize, name: usize) -> Self {
        Self {
            number,
            name: format!("runner-{name}"),
            spool: BTreeMap::new(),
            life: 0,
            process: None,
            paused_until: Time::ZERO,
        }
    }

    /// Starts a process, if none runs.
    pub(crate) fn start(&mut self, world: &mut World) {
        if self.process.is_some() {
            return;
        }
        self.life += 1;
        self.process = Some(Process::new(self.number, self.name.clone(), self.life));
        let delay = world.millis(0, 200);
        world.after(
            delay,
            Event::Connect {
                runner: self.number,
                life: self.life,
            },
        );
    }

    /// Ends the process, and with it every job it runs.
    pub(crate) fn die(&mut self, world: &mut World) {
        let Some(process) = self.process.take() else {
            return;
        };
        if let Some(conn) = process.conn() {
            world.close(conn, End::Runner);
        }
        for held in self.spool.values_mut() {
            held.lose();
        }
    }

    /// Lets the process of this life connect.
    pub(crate) fn connect(&mut self, life: u64, world: &mut World) {
        if let Some(process) = self.process.as_mut().filter(|_| life == self.life) {
            process.connect(&self.spool, world);
        }
    }

    /// Lets an attempt of the process of this life go on.
    pub(crate) fn work(&mut self, life: u64, token: AttemptToken, world: &mut World) {
        if let Some(process) = self.process.as_mut().filter(|_| life == self.life) {
            process.work(token, &mut self.spool, world);
        }
    }

    /// Whether a connection is the one its process has now.
    pub(crate) fn has(&self, conn: ConnId) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.conn() == Some(conn))
    }

    /// Something came out of the pipe of its connection.
    pub(crate) fn arrival(&mut self, conn: ConnId, world: &mut World) {
        let arrival = world.net.take(conn, End::Runner);
        if let (Some(process), Some(arrival)) = (&mut self.process, arrival) {
            process.arrival(arrival, &mut self.spool, world);
        }
    }

    /// The time of its session has come.
    pub(crate) fn session_timer(&mut self, world: &mut World) {
        if let Some(process) = &mut self.process {
            process.session_timer(&mut self.spool, world);
        }
    }
}
