//! Faults as they happen, and their end.

use std::time::Duration;

use rustci_scheduler::{Command, Drain, Pause, Quota, RunId};
use valkyrie_frame::Time;

use crate::{
    net::{ConnId, End, Loss},
    options::Fault,
    people::Quotas,
    runner::Runner,
    server::Death,
    simulation::Simulation,
    workload::PROJECTS,
    world::Event,
};

impl Simulation {
    /// Makes something go wrong, if there is something it can happen to.
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::KillServer => self.server.doom(Death::Killed, &mut self.world),
            Fault::PowerLoss => self.server.doom(Death::PowerLost, &mut self.world),
            Fault::FailSync | Fault::FullDisk => self.server.break_disk(fault, &mut self.world),
            Fault::KillRunner => self.kill_runner(),
            Fault::Pause => self.pause(),
            Fault::DoubleStart => self.double_start(),
            Fault::CutConnection => self.lose_connection(Loss::Told),
            Fault::HalfOpen => {
                let loss = match self.world.rng.below(3) {
                    0 => Loss::Silent(End::Runner),
                    1 => Loss::Silent(End::Server),
                    _ => Loss::SilentBoth,
                };
                self.lose_connection(loss);
            }
            Fault::Cancel => self.cancel(),
            Fault::Drain => self.drain(),
            Fault::Operate => self.operate(),
            Fault::SlowSync
            | Fault::Delay
            | Fault::SplitReads
            | Fault::Reject
            | Fault::FailAttempts
            | Fault::Stubborn => {}
        }
    }

    fn kill_runner(&mut self) {
        let runner = self.world.rng.place(self.world.options.runners);
        self.with_runner(runner, Runner::die);
        let delay = self.world.millis(100, 30_000);
        self.world.after(delay, Event::StartRunner { runner });
    }

    fn pause(&mut self) {
        let until = self.world.now + self.world.millis(100, 60_000);
        let node = self.world.rng.place(self.runners.len() + 1);
        match self.runners.get_mut(node) {
            Some(runner) => runner.paused_until = until,
            None => self.server.paused_until = until,
        }
    }

    /// A copy of a runner starts, with the same name and nothing in its spool.
    fn double_start(&mut self) {
        let count = self.world.options.runners;
        let clone = count + self.world.rng.place(count);
        self.with_runner(clone, Runner::start);
        let delay = self.world.millis(500, 10_000);
        self.world.after(delay, Event::EndClone { runner: clone });
    }

    fn lose_connection(&mut self, loss: Loss) {
        let open: Vec<ConnId> = self.world.net.open();
        let world = &mut self.world;
        if let Some(conn) = world.rng.pick(&open) {
            world.net.lose(conn, loss, world.now, &mut world.queue);
        }
    }

    fn cancel(&mut self) {
        let pick = self.world.rng.below(100);
        self.server.with(&mut self.world, |process, world| {
            let runs: Vec<RunId> = process.scheduler.runs().map(|run| run.id).collect();
            let place = usize::try_from(pick)
                .unwrap_or(0)
                .checked_rem(runs.len())
                .unwrap_or(0);
            if let Some(run) = runs.get(place).copied() {
                let reason = "somebody wanted it".to_owned();
                let _ = process.handle(Command::CancelRun { run, reason }, world);
            }
        });
    }

    fn drain(&mut self) {
        let pick = self.world.rng.below(100);
        self.set_quotas(Quotas::Some);
        self.server.with(&mut self.world, |process, world| {
            let runners: Vec<_> = process
                .scheduler
                .known_runners()
                .map(|known| known.id)
                .collect();
            let place = usize::try_from(pick)
                .unwrap_or(0)
                .checked_rem(runners.len() + 1);
            let command = match runners.get(place.unwrap_or(0)).copied() {
                Some(runner) => Command::RunnerDrain {
                    runner,
                    drain: Drain::On,
                },
                None => Command::Pause(Pause::On),
            };
            let _ = process.handle(command, world);
        });
        let delay = self.world.millis(1_000, 20_000);
        self.world.after(delay, Event::Undrain);
    }

    /// Somebody sets a quota, or forgets a runner that is not there.
    fn operate(&mut self) {
        let rng = &mut self.world.rng;
        let (pick, forget) = (rng.below(100), rng.chance(50));
        let project = PROJECTS
            .get(rng.place(4))
            .copied()
            .unwrap_or_default()
            .to_owned();
        let quota = Quota {
            running: u32::try_from(rng.below(4)).unwrap_or_default(),
            weight: u32::try_from(rng.below(4)).unwrap_or_default(),
            ..Quota::default()
        };
        self.server.with(&mut self.world, |process, world| {
            let known = process.scheduler.known_runners();
            let runners: Vec<_> = known.map(|known| known.id).collect();
            let place = usize::try_from(pick).unwrap_or(0) % runners.len().max(1);
            let command = match runners.get(place).filter(|_| forget) {
                Some(runner) => Command::ForgetRunner { runner: *runner },
                None => Command::SetQuota { project, quota },
            };
            // One that is connected or has jobs is refused.
            let _ = process.handle(command, world);
        });
    }

    /// Somebody puts everything right that lasts until somebody does.
    pub(crate) fn undrain(&mut self) {
        self.server.repair_disk();
        self.set_quotas(Quotas::None);
        if self.server.process.is_none() {
            self.world.after(Duration::from_secs(1), Event::Undrain);
        }
        self.server.with(&mut self.world, |process, world| {
            let runners: Vec<_> = process
                .scheduler
                .known_runners()
                .map(|known| known.id)
                .collect();
            for runner in runners {
                let _ = process.handle(
                    Command::RunnerDrain {
                        runner,
                        drain: Drain::Off,
                    },
                    world,
                );
            }
            let _ = process.handle(Command::Pause(Pause::Off), world);
        });
    }

    /// From now on nothing goes wrong, so everything has to end.
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.world.options.faults.clear();
        self.server.heal();
        for number in 0..self.runners.len() {
            let clone = number >= self.world.options.runners;
            self.with_runner(number, |runner, world| {
                runner.paused_until = Time::ZERO;
                if clone {
                    runner.die(world);
                    runner.spool.clear();
                } else {
                    runner.start(world);
                }
            });
        }
        self.undrain();
    }
}
