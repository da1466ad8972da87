//! The control plane: scheduler, journal, log store, and a session per runner.
//!
//! The same order of things as in the product, without threads: a command goes through the
//! scheduler, its records into a batch, the batch to the disk when the sync before it has ended,
//! and the effects out when the sync of their records has ended.

mod jobs;
mod logs;
mod process;

use std::time::Duration;

use journal::fault::{FaultDisk, Faults};
use valkyrie_frame::Time;

use crate::{
    net::{Arrival, ConnId, End},
    options::Fault,
    world::{Event, World},
};
use logs::LogStore;
use process::Process;

/// The machine of the control plane.
#[derive(Debug, Default)]
pub(crate) struct Server {
    disk: FaultDisk,
    logs: LogStore,
    /// Counts processes, so that what an earlier one waited for does not reach a later one.
    life: u64,
    pub(crate) process: Option<Process>,
    pub(crate) paused_until: Time,
    /// A death that waits for the worst moment.
    doom: Option<(Moment, Death)>,
}

/// A moment that a random time seldom meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// A batch is written and not synced.
    BeforeSync,
    /// It is synced, and nobody has been told.
    AfterSync,
}

/// How a process of the control plane ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The disk keeps what was written.
    Killed,
    /// Any part of what was not synced is lost.
    PowerLost,
}

impl Server {
    /// Starts a process on what is on the disk.
    pub(crate) fn start(&mut self, world: &mut World) {
        if self.process.is_some() {
            return;
        }
        self.disk.set_faults(Faults::default());
        self.life += 1;
        match Process::start(self.life, &self.disk, world) {
            Ok(process) => self.process = Some(process),
            Err(error) => world
                .oracle
                .fail("I3", format!("the journal does not open: {error}")),
        }
        self.pump(world);
    }

    /// Ends the process and starts the next one a little later.
    pub(crate) fn die(&mut self, death: Death, world: &mut World) {
        let Some(process) = self.process.take() else {
            return;
        };
        for conn in process.links.keys() {
            world.close(*conn, End::Server);
        }
        self.disk = match death {
            Death::Killed => self.disk.kill(),
            Death::PowerLost => self.disk.lose_power(&mut |below| world.rng.below(below)),
        };
        self.logs.restart(death, world);
        let delay = world.millis(10, 5_000);
        world.after(delay, Event::StartServer);
    }

    /// Ends the process now, or around the next sync.
    pub(crate) fn doom(&mut self, death: Death, world: &mut World) {
        match world.rng.below(3) {
            0 => self.die(death, world),
            1 => self.doom = Some((Moment::BeforeSync, death)),
            _ => self.doom = Some((Moment::AfterSync, death)),
        }
    }

    /// Nothing happens to it any more.
    pub(crate) fn heal(&mut self) {
        self.doom = None;
        self.paused_until = Time::ZERO;
    }

    /// Ends the process when this is the moment for it.
    fn meets_doom(&mut self, moment: Moment, world: &mut World) -> Option<Death> {
        let (_, death) = self.doom.take_if(|(at, _)| *at == moment)?;
        self.die(death, world);
        Some(death)
    }

    /// Something goes wrong with the disk; the process will notice.
    pub(crate) fn break_disk(&mut self, fault: Fault, world: &mut World) {
        let faults = match fault {
            Fault::FailSync => Faults {
                syncs_left: Some(0),
                ..Faults::default()
            },
            _ => Faults {
                bytes_left: Some(0),
                ..Faults::default()
            },
        };
        self.disk.set_faults(faults);
        // An operator repairs a disk whose failure nobody has noticed, too.
        if fault == Fault::FullDisk {
            world.after(Duration::from_secs(20), Event::Undrain);
        }
    }

    /// Nothing is wrong with the disk any more.
    pub(crate) fn repair_disk(&mut self) {
        self.disk.set_faults(Faults::default());
    }

    /// Something came out of the pipe of a connection.
    pub(crate) fn arrival(&mut self, conn: ConnId, world: &mut World) {
        let arrival = world.net.take(conn, End::Server);
        let Some(process) = &mut self.process else {
            // Nobody listens: the kernel answers in place of the process.
            world.close(conn, End::Server);
            return;
        };
        match arrival {
            Some(Arrival::Bytes(bytes)) => process.bytes(conn, &bytes, &mut self.logs, world),
            Some(Arrival::Hangup) => process.lost(conn, world),
            None => {}
        }
        self.pump(world);
    }

    /// The time of a session has come.
    pub(crate) fn session_timer(&mut self, conn: ConnId, world: &mut World) {
        if let Some(process) = &mut self.process {
            process.session_timer(conn, &mut self.logs, world);
        }
        self.pump(world);
    }

    /// Does something with the running process, if there is one.
    pub(crate) fn with(
        &mut self,
        world: &mut World,
        action: impl FnOnce(&mut Process, &mut World),
    ) {
        if let Some(process) = &mut self.process {
            action(process, world);
        }
        self.pump(world);
    }

    /// The disk has finished a sync.
    pub(crate) fn synced(&mut self, life: u64, world: &mut World) {
        if life != self.life || self.meets_doom(Moment::BeforeSync, world).is_some() {
            return;
        }
        match self.process.as_mut().map(|process| process.sync(world)) {
            Some(Ok(index)) if self.meets_doom(Moment::AfterSync, world).is_none() => {
                if let Some(process) = &mut self.process {
                    process.release(index, world);
                }
                self.pump(world);
            }
            Some(Ok(_)) | None => {}
            // What the kernel did with the pages after a failed sync cannot be known.
            Some(Err(_)) => self.die(Death::PowerLost, world),
        }
    }

    /// The log files have been synced.
    pub(crate) fn logs_synced(&mut self, life: u64, world: &mut World) {
        if let Some(process) = self.process.as_mut().filter(|_| life == self.life) {
            process.logs_synced(&mut self.logs, world);
        }
        self.pump(world);
    }

    /// Lets the process write what has gathered, and checks its state.
    fn pump(&mut self, world: &mut World) {
        let Some(process) = &mut self.process else {
            return;
        };
        process.flush(world);
        if process.pump(world).is_err() {
            self.die(Death::Killed, world);
            return;
        }
        process.arm(world);
        world.oracle.inspect(&process.scheduler);
        world.oracle.check_logs(|token| self.logs.durable(token));
    }
}
