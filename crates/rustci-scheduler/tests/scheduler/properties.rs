//! Invariants that hold after every command of any sequence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::{collection::vec, prelude::*, test_runner::RngAlgorithm};
use rustci_pipeline::{Concurrency, Job};
use rustci_scheduler::{
    AttemptResult, AttemptToken, Command, Drain, Effect, JobId, Pause, Phase, Quota, Run, RunId,
    RunnerId, RunnerUp, SlotUse, StoredPlan, Verdict, Waiting,
    record::{AttemptEnded, Cause, Conclusion, Next, Record, RunMeta, record::Kind},
};

use crate::world::{JobExt, World, group, job, newest, output, plan, plan_with};

const NAMES: [&str; 3] = ["red", "green", "blue"];
const PROJECTS: [&str; 3] = ["p", "q", "r"];

/// One move; numbers choose among what there is.
#[derive(Debug, Clone)]
enum Move {
    Submit {
        shape: u8,
        project: usize,
        priority: i32,
        group: u8,
    },
    Answer(u8, Verdict),
    Cancel(u8),
    Forget(u8),
    Up {
        name: usize,
        capacity: u32,
        held: u8,
    },
    Down(u8),
    Drain(u8, bool),
    ForgetRunner(u8),
    /// Of all projects when there is no such one.
    Quota {
        project: usize,
        running: u32,
        queued: u32,
        weight: u32,
    },
    Pause(bool),
    Message {
        lease: u8,
        kind: u8,
    },
    Pass(u16),
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (any::<u8>(), 0..PROJECTS.len(), 0..5_i32, any::<u8>()).prop_map(
            |(shape, project, priority, group)| Move::Submit { shape, project, priority, group },
        ),
        2 => any::<u8>().prop_map(|job| Move::Answer(job, Verdict::Approved)),
        1 => any::<u8>().prop_map(|job| Move::Answer(job, Verdict::Declined)),
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => any::<u8>().prop_map(Move::Forget),
        2 => (0..NAMES.len(), 1..4_u32, any::<u8>())
            .prop_map(|(name, capacity, held)| Move::Up { name, capacity, held }),
        1 => any::<u8>().prop_map(Move::Down),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(runner, on)| Move::Drain(runner, on)),
        1 => any::<u8>().prop_map(Move::ForgetRunner),
        1 => (0..=PROJECTS.len(), 0..4_u32, 0..20_u32, 0..4_u32).prop_map(
            |(project, running, queued, weight)| Move::Quota { project, running, queued, weight }
        ),
        1 => any::<bool>().prop_map(Move::Pause),
        12 => (any::<u8>(), any::<u8>()).prop_map(|(lease, kind)| Move::Message { lease, kind }),
        3 => (0..20_000_u16).prop_map(Move::Pass),
        1 => Just(Move::Restart),
    ]
}

/// What the outside knows, to judge the scheduler by.
#[derive(Default)]
struct Oracle {
    world: World,
    /// Every lease ever given out.
    leases: Vec<(RunnerId, AttemptToken)>,
    checked: usize,
    fence: u64,
    /// Runner and token of the lease in force, as the records tell.
    in_force: BTreeMap<JobId, (RunnerId, u64)>,
    ended: BTreeSet<JobId>,
    canceled: BTreeSet<RunId>,
    capacity: BTreeMap<RunnerId, u32>,
    quotas: BTreeMap<String, Quota>,
}

impl Oracle {
    fn make(&mut self, step: &Move) {
        match step {
            Move::Submit {
                shape,
                project,
                priority,
                group,
            } => self.submit(plan_of(*shape, *group), PROJECTS[*project], *priority),
            Move::Answer(number, verdict) => self.answer(*number, *verdict),
            Move::Cancel(number) => {
                if let Some(run) = self.run(*number) {
                    self.world.handle(Command::CancelRun {
                        run,
                        reason: String::new(),
                    });
                }
            }
            Move::Forget(number) => {
                if let Some(run) = self.run(*number) {
                    let _ = self.world.try_handle(Command::ForgetRun { run });
                }
            }
            Move::Up {
                name,
                capacity,
                held,
            } => self.up(NAMES[*name], *capacity, *held),
            Move::Down(runner) => {
                let runner = RunnerId(u64::from(runner % 4));
                self.world.handle(Command::RunnerDown { runner });
            }
            Move::Drain(runner, on) => {
                let runner = RunnerId(u64::from(runner % 4));
                let drain = if *on { Drain::On } else { Drain::Off };
                let _ = self
                    .world
                    .try_handle(Command::RunnerDrain { runner, drain });
            }
            Move::ForgetRunner(runner) => {
                let runner = RunnerId(u64::from(runner % 4));
                let _ = self.world.try_handle(Command::ForgetRunner { runner });
            }
            Move::Quota {
                project,
                running,
                queued,
                weight,
            } => {
                let [running, queued, weight] = [*running, *queued, *weight];
                let quota = Quota {
                    running,
                    queued,
                    weight,
                };
                self.set_quota(PROJECTS.get(*project), quota);
            }
            Move::Pause(on) => {
                let pause = if *on { Pause::On } else { Pause::Off };
                self.world.handle(Command::Pause(pause));
            }
            Move::Message { lease, kind } => self.message(*lease, *kind),
            Move::Pass(millis) => self.world.pass(Duration::from_millis(u64::from(*millis))),
            Move::Restart => self.world.restart(),
        }
        self.leases.extend(self.world.assigned());
    }

    fn submit(&mut self, plan: Arc<StoredPlan>, project: &str, priority: i32) {
        let jobs = &plan.plan().jobs;
        let max = usize::try_from(self.quota(project).queued).unwrap();
        let over = max > 0 && self.waiting(project) + jobs.len() > max;
        let meta = RunMeta {
            project: project.to_owned(),
            priority,
            ..RunMeta::default()
        };
        let submit = Command::Submit { plan, meta };
        let refused = self.world.try_handle(submit).is_err();
        assert_eq!(refused, over, "the bound of waiting jobs of {project}");
    }

    fn set_quota(&mut self, project: Option<&&str>, quota: Quota) {
        let project = project.copied().unwrap_or_default().to_owned();
        self.world.handle(Command::SetQuota { project, quota });
    }

    fn quota(&self, project: &str) -> Quota {
        let set = |name: &str| self.quotas.get(name).copied().unwrap_or_default();
        set(project).or(set(""))
    }

    /// Jobs of a project that have not ended and do not run.
    fn waiting(&self, project: &str) -> usize {
        let runs = self.world.scheduler.runs();
        let own = runs.filter(|run| run.meta.project == project);
        let jobs = own.flat_map(|run| &run.jobs);
        let waiting = jobs.filter(|job| matches!(job.phase, Phase::Blocked | Phase::Queued));
        waiting.count()
    }

    /// Jobs that are said to wait for this.
    fn waiting_for(&self, code: &str) -> usize {
        let scheduler = &self.world.scheduler;
        let ids = |run: &Run| (0..run.jobs.len()).map(|place| run.job_id(place)).collect();
        let jobs = scheduler.runs().flat_map(|run| -> Vec<JobId> { ids(run) });
        let waiting = jobs.filter_map(|job| scheduler.waiting(job));
        waiting.filter(|waiting| waiting.code() == code).count()
    }

    fn running(&self, project: &str) -> usize {
        let jobs = self.in_force.keys();
        let of = |job: &&JobId| {
            let run = self.world.scheduler.job(**job).map(|(run, _, _)| run);
            run.is_some_and(|run| run.meta.project == project)
        };
        jobs.filter(of).count()
    }

    fn run(&self, number: u8) -> Option<RunId> {
        let runs: Vec<_> = self.world.scheduler.runs().map(|run| run.id).collect();
        runs.get(usize::from(number) % runs.len().max(1)).copied()
    }

    fn asking(&self) -> Vec<(RunId, JobId)> {
        let runs = self.world.scheduler.runs();
        let asking = runs.flat_map(|run| {
            let places = (0..run.jobs.len()).filter(|place| run.jobs[*place].is_asking());
            places.map(|place| (run.id, run.job_id(place)))
        });
        asking.collect()
    }

    fn answer(&mut self, number: u8, verdict: Verdict) {
        let asking = self.asking();
        let Some((run, job)) = asking
            .get(usize::from(number) % asking.len().max(1))
            .copied()
        else {
            return;
        };
        let answer = Command::Answer {
            run,
            job,
            verdict,
            by: String::new(),
            comment: String::new(),
        };
        self.world.handle(answer.clone());
        self.world.try_handle(answer).unwrap_err();
    }

    /// Connects a runner that holds each of its leases or not, by the bits of `held`.
    fn up(&mut self, name: &str, capacity: u32, held: u8) {
        let known = self
            .world
            .scheduler
            .known_runners()
            .find(|known| known.name == name);
        let id = known.map(|known| known.id);
        let own = self.leases.iter().filter(|(runner, _)| Some(*runner) == id);
        let bit = |number: usize| held >> (number % 8) & 1 == 1;
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        for (number, (_, token)) in own.enumerate() {
            if bit(number) {
                kept.push(*token)
            } else if bit(number + 1) {
                lost.push(*token)
            }
        }
        let up = RunnerUp {
            name: name.to_owned(),
            labels: vec!["os=linux".to_owned()],
            capacity,
            executors: vec!["native".to_owned()],
            held: kept,
            lost,
        };
        self.world.handle(Command::RunnerUp(up));
        for runner in self.world.scheduler.runners() {
            self.capacity.insert(runner.id, runner.capacity);
        }
    }

    /// Sends a message about any lease, old or new, and checks whether it should be taken.
    fn message(&mut self, lease: u8, kind: u8) {
        let Some((runner, token)) = self
            .leases
            .get(usize::from(lease) % self.leases.len().max(1))
            .copied()
        else {
            return;
        };
        let current = self.in_force.get(&token.job) == Some(&(runner, token.fence.0));
        let outcome = match kind % 3 {
            0 => Conclusion::Failure,
            _ => Conclusion::Success,
        };
        let result = AttemptResult {
            outcome,
            outputs: vec![output(
                "m",
                MATRICES[usize::from(kind) / 8 % MATRICES.len()],
            )],
            ..AttemptResult::default()
        };
        let message = match kind % 8 {
            0 => Command::Accepted { runner, token },
            1 => Command::Rejected {
                runner,
                token,
                reason: String::new(),
            },
            2 => Command::Started { runner, token },
            3 => Command::Renew { runner, token },
            4 => {
                let (cause, message) = (Cause::Workspace, String::new());
                Command::Failed {
                    runner,
                    token,
                    cause,
                    message,
                    log_bytes: 0,
                }
            }
            _ => Command::Finished {
                runner,
                token,
                result,
            },
        };
        let records = self.world.journal.len();
        let taken = self.world.try_handle(message).is_ok();
        if current {
            assert!(taken, "current lease {token} refused");
        } else {
            assert_eq!(
                self.world.journal.len(),
                records,
                "old lease {token} changed something"
            );
        }
    }

    fn check(&mut self) {
        while let Some(record) = self.world.journal.get(self.checked).cloned() {
            self.checked += 1;
            self.check_record(&record);
        }
        self.check_state();
        for effect in &self.world.effects {
            if let Effect::Assign { runner, token, .. } = effect {
                assert_eq!(
                    self.in_force.get(&token.job),
                    Some(&(*runner, token.fence.0))
                );
            }
        }
    }

    fn check_record(&mut self, record: &Record) {
        match record.kind.as_ref().unwrap() {
            Kind::Leased(leased) => {
                let job = JobId(leased.job);
                assert!(leased.fence > self.fence, "I2: fencing numbers grow");
                self.fence = leased.fence;
                let before = self
                    .in_force
                    .insert(job, (RunnerId(leased.runner), leased.fence));
                assert_eq!(before, None, "I2: one lease per job");
                assert!(!self.ended.contains(&job), "I1: no lease after the end");
                if let Some((run, _, _)) = self.world.scheduler.job(job) {
                    assert!(
                        !self.canceled.contains(&run.id),
                        "I6: no start after a cancel"
                    );
                    let project = &run.meta.project;
                    let max = usize::try_from(self.quota(project).running).unwrap();
                    let within = max == 0 || self.running(project) <= max;
                    assert!(within, "{project} runs more than {max} jobs");
                }
            }
            Kind::AttemptEnded(ended) => self.check_end(ended),
            Kind::JobEnded(ended) => {
                assert!(self.ended.insert(JobId(ended.job)), "I1: one end per job");
                assert!(!self.in_force.contains_key(&JobId(ended.job)));
            }
            Kind::RunCanceled(canceled) => {
                self.canceled.insert(RunId(canceled.run));
            }
            Kind::QuotaSet(set) => {
                let quota = Quota {
                    running: set.running,
                    queued: set.queued,
                    weight: set.weight,
                };
                self.quotas.insert(set.project.clone(), quota);
            }
            _ => {}
        }
    }

    fn check_end(&mut self, ended: &AttemptEnded) {
        let job = JobId(ended.job);
        assert!(
            self.in_force.remove(&job).is_some(),
            "I2: only a leased job's attempt ends"
        );
        if ended.next() == Next::End {
            assert!(self.ended.insert(job), "I1: one end per job");
        }
    }

    fn check_state(&self) {
        self.check_slots();
        for runner in self.world.scheduler.runners() {
            // A runner may come back with a smaller capacity than it had.
            let fits = runner.jobs.len() <= 3.max(runner.capacity as usize);
            assert!(fits, "I7: {} has {} jobs", runner.name, runner.jobs.len());
        }
        for run in self.world.scheduler.runs() {
            for (place, job) in run.jobs.iter().enumerate() {
                let leased = self.in_force.contains_key(&run.job_id(place));
                assert_eq!(job.phase == Phase::Active, leased);
                if job.phase == Phase::Active && run.plan.plan().jobs[place].condition.is_none() {
                    let needs = run.plan.needs(place).iter();
                    let met = needs
                        .clone()
                        .all(|need| run.jobs[*need].phase == Phase::Ended);
                    assert!(met, "I6: needs come first");
                }
                let gate = run.plan.plan().jobs[place].environment.is_some();
                if gate && matches!(job.phase, Phase::Queued | Phase::Active) {
                    let answer = job.approval.as_ref().unwrap().answer.as_ref();
                    assert_eq!(answer.unwrap().verdict, Verdict::Approved);
                }
            }
            let open = run.jobs.iter().any(|job| job.phase != Phase::Ended);
            assert_eq!(run.conclusion.is_none(), open);
        }
        self.check_counts();
    }

    /// What is counted along the way is what there is, and nobody waits for a runner that is free.
    fn check_counts(&self) {
        let scheduler = &self.world.scheduler;
        for name in PROJECTS {
            let counted = scheduler.project(name);
            let counted = counted.map_or((0, 0), |project| (project.waiting, project.running));
            assert_eq!(counted, (self.waiting(name), self.running(name)), "{name}");
        }
        let waiting: usize = PROJECTS.iter().map(|name| self.waiting(name)).sum();
        let reasons = scheduler.reasons();
        assert_eq!(reasons.values().sum::<usize>(), waiting);
        let told = |code| reasons.get(code).copied().unwrap_or(0);
        for code in ["needs", "run_slot", "slot", "approval", "max_parallel"] {
            assert_eq!(told(code), self.waiting_for(code), "{code}");
        }
        let queue = scheduler.queue_page((0, JobId(0)), None, usize::MAX);
        assert_eq!(queue.len(), scheduler.queued());
        for (_, job) in queue {
            if let Some(Waiting::Capacity { .. }) = scheduler.waiting(job) {
                assert_eq!(scheduler.ahead(job).unwrap().free, 0, "job {job} could go");
            }
        }
    }

    /// A slot has one holder, and who needs one does not run without.
    fn check_slots(&self) {
        let mut holders = BTreeSet::new();
        for run in self.world.scheduler.runs() {
            let project = &run.meta.project;
            let mut hold = |group: &String, within: Option<RunId>| {
                let new = holders.insert((project.clone(), group.clone(), within));
                assert!(new, "{group} has two holders");
            };
            if let SlotUse::Held { group } = &run.slot {
                hold(group, None);
            }
            for (place, job) in run.jobs.iter().enumerate() {
                if let SlotUse::Held { group } = &job.slot {
                    let own = matches!(&run.slot, SlotUse::Held { group: held } if held == group);
                    hold(group, own.then_some(run.id));
                }
                let wanted = run.plan.plan().jobs[place].concurrency.is_some();
                if matches!(job.phase, Phase::Queued | Phase::Active) {
                    let has = matches!(job.slot, SlotUse::Held { .. });
                    assert!(has || !wanted, "runs without its slot");
                    assert!(run.is_released(), "runs before its run has its slot");
                }
            }
        }
    }

    /// With healthy runners and nothing else, everything ends.
    fn finish(&mut self) {
        self.world.handle(Command::Pause(Pause::Off));
        for name in NAMES {
            self.up(name, 3, 0);
            let known = self
                .world
                .scheduler
                .known_runners()
                .find(|known| known.name == name);
            let runner = known.unwrap().id;
            self.world.handle(Command::RunnerDrain {
                runner,
                drain: Drain::Off,
            });
        }
        // Refused jobs may still keep a runner at rest.
        for _ in 0..3 {
            self.world.run_all(&[]);
            self.world.pass(Duration::from_secs(20));
        }
        self.world.run_all(&[]);
        // Whatever waits for a slot has somebody before it who comes to an end.
        while !self.asking().is_empty() {
            self.answer(0, Verdict::Approved);
            self.world.run_all(&[]);
        }
        self.check();
        let open = self
            .world
            .scheduler
            .runs()
            .filter(|run| run.conclusion.is_none())
            .count();
        assert_eq!(open, 0, "I12: everything ends once faults stop");
    }
}

/// What jobs hand on for dynamic matrices; the last one is none.
const MATRICES: [&str; 4] = ["[]", r#"{"n":[1,2,3]}"#, r#"[{"n":1}]"#, "?"];

/// Groups of runs, whose names are those of jobs, too.
fn group_of(number: u8) -> Option<Concurrency> {
    let group = match number % 8 {
        0 => group("x"),
        1 => group("y"),
        2 => newest("x"),
        3 => newest("y"),
        _ => return None,
    };
    let queue = (number / 8).is_multiple_of(3).then_some(1);
    Some(Concurrency { queue, ..group })
}

fn plan_of(shape: u8, group: u8) -> Arc<StoredPlan> {
    match group_of(group) {
        Some(group) => plan_with(group, shape_of(shape)),
        None => plan(shape_of(shape)),
    }
}

/// Some pipelines with every kind of edge.
fn shape_of(shape: u8) -> Vec<Job> {
    let in_matrix = |key: &str| job(key).in_matrix("m", Some(2));
    let ship = |id: &str, slot: Concurrency| job(id).needs(&["a"]).slot(slot);
    match shape % 10 {
        0 => vec![job("a")],
        1 => vec![
            job("a"),
            job("b").needs(&["a"]),
            job("c").needs(&["a"]).when("always()"),
        ],
        2 => ["m1", "m2", "m3"]
            .map(|key| in_matrix(key).fail_fast())
            .into(),
        3 => vec![
            in_matrix("m1"),
            in_matrix("m2"),
            in_matrix("m3"),
            job("z").needs(&["m"]).when("failure()"),
        ],
        4 => vec![job("a"), ship("x", group("x")), ship("y", group("y"))],
        5 => vec![job("a"), ship("x", newest("x")), ship("z", group("x"))],
        6 => vec![
            job("a")
                .approval("prod", Duration::from_secs(15))
                .slot(group("y")),
            job("b").needs(&["a"]),
        ],
        7 => vec![
            job("a"),
            ship("m", group("x")).dynamic("fromJSON(needs.a.outputs.m)"),
            job("b").needs(&["m"]).when("always()"),
        ],
        8 => vec![
            job("p"),
            job("m")
                .needs(&["p"])
                .dynamic("fromJSON(needs.p.outputs.m)"),
            job("b").needs(&["m"]),
        ],
        _ => vec![
            job("a").retry(1, &[]).tolerate("true"),
            job("b").needs(&["a"]),
        ],
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_algorithm: RngAlgorithm::ChaCha,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn invariants_hold_after_every_command(moves in vec(moves(), 1..120)) {
        let mut oracle = Oracle::default();
        for step in &moves {
            oracle.make(step);
            oracle.check();
        }
        oracle.world.restart();
        oracle.finish();
        oracle.world.restart();
    }
}
