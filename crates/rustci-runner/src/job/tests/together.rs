//! Steps that run at the same time. Those that have to meet wait for each other's files and fifos:
//! if one ran before the other, the step would hang until its limit.

use super::*;

/// Marks the steps as one group. None may take longer than this, so that a hang is a failure.
fn group(steps: impl IntoIterator<Item = v1::Step>) -> Vec<v1::Step> {
    let member = |step: v1::Step| v1::Step {
        parallel: 1,
        timeout_ms: if step.timeout_ms > 0 {
            step.timeout_ms
        } else {
            20_000
        },
        ..step
    };
    steps.into_iter().map(member).collect()
}

fn named(id: &str, run: &str) -> v1::Step {
    v1::Step {
        id: id.to_owned(),
        name: id.to_owned(),
        ..step(run)
    }
}

fn always(run: &str) -> v1::Step {
    v1::Step {
        condition: "always()".to_owned(),
        ..step(run)
    }
}

/// Says `mine` and waits until somebody says `theirs`.
fn meets(mine: &str, theirs: &str) -> String {
    format!("touch {mine}; until [ -e {theirs} ]; do sleep 0.01; done")
}

impl Outcome {
    /// Standard output of one step.
    fn output_of(&self, step: u16) -> Vec<&str> {
        let wanted = |entry: &&(u16, LogChannel, String)| {
            entry.0 == step && entry.1.source() == LogChannel::STDOUT
        };
        let lines = self.log.iter().filter(wanted);
        lines.map(|(_, _, text)| text.as_str()).collect()
    }
}

#[test]
fn steps_of_a_group_run_at_the_same_time_and_the_next_step_after_all_of_them() {
    let mut steps = vec![step("mkfifo there back")];
    steps.extend(group([
        step("echo ping > there; cat back; touch one"),
        step("cat there; echo pong > back; touch two"),
        step("cat one two > /dev/null 2>&1 || true; touch three"),
    ]));
    steps.push(step("ls one two three"));
    let run = Outcome::of(spec(steps));
    assert_eq!(run.outcomes(), [v1::Outcome::Success; 5], "{:?}", run.log);
    assert_eq!(run.output_of(1), ["pong"]);
    assert_eq!(run.output_of(2), ["ping"]);
    assert_eq!(run.output_of(4), ["one", "three", "two"]);
    let begun = run.reports.iter().filter_map(|report| match report {
        ReportKind::Step(event) => Some((event.step, matches!(event.kind, Some(Kind::Started(_))))),
        _ => None,
    });
    let begun: Vec<_> = begun.skip(2).take(3).collect();
    assert_eq!(begun, [(1, true), (2, true), (3, true)]);
}

#[test]
fn two_groups_are_two_moments() {
    let in_group = |number, run: &str| v1::Step {
        parallel: number,
        ..step(run)
    };
    let run = Outcome::of(spec([
        in_group(1, "touch a"),
        in_group(1, "touch b"),
        in_group(2, "ls a b; touch c"),
        in_group(2, "ls a b; touch d"),
        step("ls c d"),
    ]));
    assert_eq!(run.outcomes(), [v1::Outcome::Success; 5], "{:?}", run.log);
}

#[test]
fn a_failure_ends_none_of_the_others_and_the_first_in_the_file_is_to_blame() {
    let late = format!("{}; exit 3", meets("late", "failed"));
    let mut steps = group([
        named("late", &late),
        named(
            "early",
            "until [ -e late ]; do sleep 0.01; done; touch failed; exit 4",
        ),
        named("fine", &format!("{}; echo done", meets("fine", "failed"))),
    ]);
    steps.push(step("echo never"));
    steps.push(always(
        "echo ${{ steps.late.outcome }} ${{ steps.early.outcome }} ${{ steps.fine.outcome }}",
    ));
    let run = Outcome::of(spec(steps));
    use v1::Outcome::{Failure, Skipped, Success};
    assert_eq!(
        run.outcomes(),
        [Failure, Failure, Success, Skipped, Success]
    );
    assert_eq!(run.result().message, "step 1 `late`: exit code 3");
    assert_eq!(run.output(), ["done", "failure failure success"]);
}

#[test]
fn conditions_do_not_see_what_steps_beside_them_do() {
    let fails = named("fails", "exit 1");
    let skipped = v1::Step {
        condition: "failure()".to_owned(),
        ..step("echo never")
    };
    let unseeing = v1::Step {
        env: vec![v1::Binding {
            name: "SEEN".to_owned(),
            value: "[${{ steps.fails.outcome }}]".to_owned(),
        }],
        ..step("echo $SEEN")
    };
    let run = Outcome::of(spec(group([fails, skipped, unseeing])));
    use v1::Outcome::{Failure, Skipped, Success};
    assert_eq!(run.outcomes(), [Failure, Skipped, Success]);
    assert_eq!(run.output(), ["[]"]);
}

#[test]
fn a_step_over_its_time_is_ended_alone() {
    let slow = v1::Step {
        timeout_ms: 200,
        ..step("sleep 61 & trap 'touch over; exit 1' TERM; sleep 62; sleep 63")
    };
    let fine = "(until [ -e over ]; do sleep 0.01; done; echo child) & wait; echo parent";
    let run = Outcome::of(spec(group([slow, step(fine)])));
    use v1::Outcome::{Success, TimedOut};
    assert_eq!(run.outcomes(), [TimedOut, Success], "{:?}", run.log);
    assert_eq!(run.output(), ["child", "parent"]);
    assert_eq!(run.result().message, "step 1 `step`: timed out after 200ms");
}

#[test]
fn cancel_reaches_all_of_them_and_the_rest_of_the_grace_is_for_cleaning_up() {
    let polite = |name: &str| {
        step(&format!(
            "trap 'echo bye {name}; exit 1' TERM; echo ready {name}; while true; do sleep 0.01; done"
        ))
    };
    let mut steps = group([polite("a"), polite("b")]);
    steps.extend(group([always("echo clean a"), always("echo clean b")]));
    steps[2].parallel = 2;
    steps[3].parallel = 2;
    let mut run = Run::start(begin(spec(steps)));
    run.await_log("ready a");
    run.await_log("ready b");
    run.cancel(Duration::from_secs(20));
    let run = run.finish();
    use v1::Outcome::{Canceled, Success};
    assert_eq!(run.outcomes(), [Canceled, Canceled, Success, Success]);
    assert_eq!(run.result().outcome(), Canceled);
    assert_eq!(run.output_of(0), ["ready a", "bye a"]);
    assert_eq!(run.output_of(1), ["ready b", "bye b"]);
    assert_eq!(run.output_of(2), ["clean a"]);
}

#[test]
fn stubborn_steps_are_killed_all_together() {
    let stubborn = |name: &str| {
        step(&format!(
            "trap '' TERM; (setsid sleep 64 &); echo ready {name}; while :; do sleep 0.01; done"
        ))
    };
    let mut steps = group([stubborn("a"), stubborn("b")]);
    steps.iter_mut().for_each(|step| step.timeout_ms = 0);
    let mut run = Run::start(begin(spec(steps.clone())));
    run.await_log("ready a");
    run.await_log("ready b");
    run.cancel(Duration::from_millis(100));
    assert_eq!(run.finish().outcomes(), [v1::Outcome::Canceled; 2]);
    let mut order = begin(spec(steps));
    order.timeout_ms = 300;
    order.grace_ms = 100;
    let run = Run::start(order).finish();
    assert_eq!(run.outcomes(), [v1::Outcome::TimedOut; 2]);
    assert_eq!(run.result().outcome(), v1::Outcome::TimedOut);
}

#[test]
fn nothing_of_a_group_survives_the_runner() {
    let script = |name: &str| {
        step(&format!(
            "(trap '' TERM; setsid sleep 65 &); echo ready {name}; sleep 66"
        ))
    };
    let mut run = Run::start(begin(spec(group([script("a"), script("b")]))));
    run.await_log("ready a");
    run.await_log("ready b");
    drop(run.child.stdin.take());
    assert!(run.finish().ending.is_none(), "nobody asked for a result");
}

#[test]
fn what_one_leaves_in_the_background_lives_on_beside_the_others_and_ends_with_the_job() {
    let leaves = "(setsid sh -c 'echo $$ > daemon; while :; do sleep 0.01; done' &); \
                  until [ -s daemon ]; do sleep 0.01; done; touch left";
    let beside = "until [ -e left ]; do sleep 0.01; done; kill -0 $(cat daemon) && echo alive";
    let mut steps = group([step(leaves), step(beside)]);
    steps.push(step("kill -0 $(cat daemon) && echo still"));
    let run = Outcome::of(spec(steps));
    assert_eq!(run.output(), ["alive", "still"], "{:?}", run.log);
    let pid = std::fs::read_to_string(run.dir.workspace().join("daemon")).unwrap();
    assert_eq!(process::Process::find(pid.trim().parse().unwrap()), None);
}

#[test]
fn a_step_is_tried_again_while_others_run() {
    let flaky = v1::Step {
        retry: Some(v1::Retry {
            max: 3,
            exit_codes: Vec::new(),
        }),
        ..named(
            "flaky",
            "[ $CI_STEP_TRY = 3 ] || exit 75; touch passed; echo n=$CI_STEP_TRY >> $CI_OUTPUT",
        )
    };
    let other = step("until [ -e passed ]; do sleep 0.01; done");
    let mut steps = group([flaky, other]);
    steps.push(step("echo ${{ steps.flaky.outputs.n }}"));
    let run = Outcome::of(spec(steps));
    assert_eq!(run.outcomes(), [v1::Outcome::Success; 3], "{:?}", run.log);
    assert_eq!(run.result().steps[0].tries, 3);
    assert_eq!(run.output(), ["3"]);
    let told = run.lines(LogChannel::SYSTEM);
    assert!(
        told.contains(&"exit code 75; trying again (3 of 4)"),
        "{told:?}"
    );
}

#[test]
fn a_step_that_cannot_start_leaves_the_others_alone() {
    let lost = v1::Step {
        working_directory: "missing".to_owned(),
        ..step("echo never")
    };
    let gone = v1::Step {
        shell: "./no-such-program {0}".to_owned(),
        ..step("echo never")
    };
    let run = Outcome::of(spec(group([lost, step("echo fine"), gone])));
    use v1::Outcome::{Failure, Success};
    assert_eq!(run.outcomes(), [Failure, Success, Failure]);
    assert_eq!(run.output(), ["fine"]);
    let message = &run.result().message;
    assert!(
        message.contains("does not exist in the workspace"),
        "{message}"
    );
}

#[test]
fn values_take_effect_behind_the_group_in_the_order_of_the_file() {
    let first = format!(
        "{}; echo A=first >> $CI_ENV; echo $PWD/x >> $CI_PATH; echo o=1 >> $CI_OUTPUT; echo '# One' > $CI_STEP_SUMMARY",
        meets("a", "b-done")
    );
    // It ends first, and stands second in the file.
    let second = "until [ -e a ]; do sleep 0.01; done; echo A=second >> $CI_ENV; echo $PWD/y >> $CI_PATH; \
                  echo '# Two' > $CI_STEP_SUMMARY; echo \"[$A]\"; touch b-done";
    let mut steps = vec![step("echo A=before >> $CI_ENV")];
    steps.extend(group([named("one", &first), named("two", second)]));
    steps.push(step(
        "echo $A ${{ env.A }} ${{ steps.one.outputs.o }}; echo $PATH | cut -d: -f1,2 | sed \"s|$PWD||g\"",
    ));
    let run = Outcome::of(spec(steps));
    assert_eq!(run.outcomes(), [v1::Outcome::Success; 4], "{:?}", run.log);
    assert_eq!(run.output(), ["[before]", "second second 1", "/y:/x"]);
    let summaries = run.result().summaries.iter().map(|summary| summary.step);
    assert_eq!(summaries.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_secret_is_masked_however_the_writes_of_steps_are_mixed() {
    let secret = v1::Secret {
        name: "A".to_owned(),
        value: "first-secret-value".to_owned(),
    };
    // Each writes half of it, waits until the other one has, and then goes on.
    let half = |mine: &str, theirs: &str| {
        step(&format!(
            "printf '{mine} first-sec'; {}; echo mid >&2; printf 'ret-value {mine}\\n'",
            meets(mine, theirs)
        ))
    };
    let run = Outcome::of(v1::JobSpec {
        secrets: vec![secret],
        ..spec(group([half("a", "b"), half("b", "a")]))
    });
    assert_eq!(run.outcomes(), [v1::Outcome::Success; 2], "{:?}", run.log);
    assert_eq!(run.output_of(0).concat(), "a *** a");
    assert_eq!(run.output_of(1).concat(), "b *** b");
    // The command of a step has only the halves.
    let printed = run.lines(LogChannel::STDOUT).concat();
    assert!(!printed.contains("first-sec") && !printed.contains("ret-value"));
}

#[test]
fn what_one_step_registers_is_masked_in_the_others_too() {
    let first =
        "echo s3cr3t-token >> $CI_MASK; touch known; until [ -e said ]; do sleep 0.01; done";
    let second = "until [ -e known ]; do sleep 0.01; done; echo got s3cr3t-token; touch said";
    let run = Outcome::of(spec(group([step(first), step(second)])));
    assert_eq!(run.output(), ["got ***"], "{:?}", run.log);
}

#[test]
fn more_steps_than_a_group_may_have_start_in_turns() {
    let all = rustci_pipeline::limits::PARALLEL_STEPS_MAX + 1;
    let mut steps = group((1..all).map(|number| step(&format!("touch s{number}"))));
    steps.extend(group([step("ls s* | wc -l")]));
    let run = Outcome::of(spec(steps));
    assert_eq!(run.output(), [(all - 1).to_string()], "{:?}", run.log);
}
