//! The picture of a run on a terminal: jobs, steps, times and the last lines of what runs.

use super::board::{Board, Mood, elapsed};
use super::job::{Look, Row, mood};
use super::style::duration;
use super::text::{Keep, clean, cut, spread};
use crate::api::view::{JobView, Status, StepView};
use crate::failure::plural;

/// Lines of output shown for one running job.
const TAIL_ROWS_MAX: usize = 5;

/// A moment of a run, and the room to show it in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// Colours and columns.
    pub(crate) look: Look,
    /// Rows of the terminal.
    pub(crate) rows: usize,
    /// Unix milliseconds.
    pub(crate) now_ms: u64,
    /// Counts the redraws; turns the spinner.
    pub(crate) tick: usize,
    /// A last line, such as what Ctrl-C does now.
    pub(crate) footer: Option<&'a str>,
}

/// The lines to show, fewer than `rows` of them, each at most as wide as the terminal.
///
/// When there is too little room, tails go first, then finished steps, then jobs of which there is
/// nothing to say; how many were left out is on a line of its own.
pub(crate) fn frame(board: &Board, moment: &Moment<'_>) -> Vec<String> {
    let room = moment.rows.saturating_sub(1).max(3);
    let room = room - usize::from(moment.footer.is_some());
    let (jobs, hidden) = choose(board, room.saturating_sub(1));
    let mut spare = room.saturating_sub(1 + jobs.len() + usize::from(hidden.is_some()));
    // Steps of one job can run at the same time, and each has a tail.
    let running: usize = jobs
        .iter()
        .map(|job| visible_steps(job, Steps::Running).count())
        .sum();
    let all_steps: usize = jobs
        .iter()
        .map(|job| visible_steps(job, Steps::All).count())
        .sum();
    let steps = if all_steps + running <= spare {
        Steps::All
    } else {
        Steps::Running
    };
    let shown: usize = jobs
        .iter()
        .map(|job| visible_steps(job, steps).count())
        .sum();
    let with_steps = shown <= spare;
    if with_steps {
        spare -= shown;
    }
    let tail_rows = (spare / running.max(1)).min(TAIL_ROWS_MAX);

    let row = Row::for_run(&board.run, moment.look, moment.now_ms, Some(moment.tick));
    let mut lines = vec![header(board, moment)];
    for job in jobs {
        lines.push(row.job(job));
        if with_steps {
            for step in visible_steps(job, steps) {
                lines.push(row.step(step));
                lines.extend(tail(board, job, step, tail_rows, moment.look));
            }
        }
    }
    lines.extend(hidden.map(|text| moment.look.colour.dim(&format!("  {text}"))));
    lines.extend(
        moment
            .footer
            .map(|text| moment.look.colour.yellow(&format!("  {text}"))),
    );
    lines
        .into_iter()
        .map(|line| cut(&line, moment.look.columns).into_owned())
        .collect()
}

/// Which steps of a running job are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Steps {
    All,
    Running,
}

fn visible_steps(job: &JobView, steps: Steps) -> impl Iterator<Item = &StepView> {
    let on = job.status == Status::Running;
    job.steps.iter().filter(move |step| match steps {
        Steps::All => on && step.status != Status::Queued,
        Steps::Running => on && step.status == Status::Running,
    })
}

/// The jobs that fit, in the order of the file, and what to say about the others.
fn choose(board: &Board, room: usize) -> (Vec<&JobView>, Option<String>) {
    let jobs = &board.run.jobs;
    if jobs.len() <= room {
        return (jobs.iter().collect(), None);
    }
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    let run = &board.run;
    order.sort_by_key(|at| jobs.get(*at).map(|job| mood(job, run)));
    let mut shown: Vec<usize> = order.iter().copied().take(room.saturating_sub(1)).collect();
    shown.sort_unstable();
    let rest = order
        .iter()
        .skip(shown.len())
        .filter_map(|at| jobs.get(*at))
        .map(|job| mood(job, run));
    let (mut waiting, mut done, mut others) = (0, 0, 0);
    for mood in rest {
        match mood {
            Mood::Waiting => waiting += 1,
            Mood::Good | Mood::Skipped => done += 1,
            Mood::Running | Mood::Bad | Mood::Tolerated => others += 1,
        }
    }
    let counts = [
        (waiting, "waiting"),
        (done, "done"),
        (others, "running or failed"),
    ];
    let words: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let text = format!(
        "… and {} more: {}",
        jobs.len() - shown.len(),
        words.join(", ")
    );
    (
        shown.iter().filter_map(|at| jobs.get(*at)).collect(),
        Some(text),
    )
}

fn header(board: &Board, moment: &Moment<'_>) -> String {
    let run = &board.run;
    let jobs = &board.run.jobs;
    let done = jobs
        .iter()
        .filter(|job| job.status == Status::Finished)
        .count();
    let colour = moment.look.colour;
    let left = format!(
        "{}  {}",
        colour.bold(&cut(
            &clean(&run.pipeline, Keep::Text),
            moment.look.columns / 2
        )),
        colour.dim(&format!(
            "run {}, {done} of {} {} done",
            run.id,
            jobs.len(),
            plural(jobs.len(), "job")
        )),
    );
    let time = elapsed(Some(run.created_ms), run.finished_ms, moment.now_ms).unwrap_or_default();
    spread(&left, &duration(time), moment.look.columns)
}

fn tail(board: &Board, job: &JobView, step: &StepView, rows: usize, look: Look) -> Vec<String> {
    if step.status != Status::Running {
        return Vec::new();
    }
    let index = u16::try_from(step.index).ok();
    let mut last: Vec<String> = board
        .tail(job.id, index)
        .rev()
        .take(rows)
        .map(|text| look.quoted(8, text))
        .collect();
    last.reverse();
    last
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::sample::{self, NOW_MS};
    use super::super::style::{Colour, Sink};
    use super::super::text::width;
    use super::*;

    fn moment(rows: usize) -> Moment<'static> {
        let look = sample::look(Sink::Terminal);
        Moment {
            look,
            rows,
            now_ms: NOW_MS,
            tick: 0,
            footer: None,
        }
    }

    fn check(moment: &Moment<'_>, expected: &Expect) {
        let lines = frame(&sample::running(), moment);
        assert!(lines.len() < moment.rows, "{} lines", lines.len());
        assert!(lines.iter().all(|line| width(line) <= moment.look.columns));
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn with_room_everything_is_shown() {
        check(
            &moment(24),
            &expect![[r#"
            ci  run 7, 1 of 5 jobs done                                                 3.2s
              ✓ lint                                                                    0.7s
              ⠋ test (stable, postgres)                                                 2.2s
                  ✓ build                                                               0.9s
                  ⠋ unit tests                                                          1.3s
                    │ running 3 tests
                    │ test a ... ok
                    │ test b ... FAILED
              ○ test (beta, 漢字)        no runner has the label `gpu`; connected runners: 1
              ○ build                    needs test
              ○ deploy                   needs lint, build"#]],
        );
    }

    #[test]
    fn with_little_room_tails_go_first_and_then_finished_steps() {
        check(
            &moment(9),
            &expect![[r#"
            ci  run 7, 1 of 5 jobs done                                                 3.2s
              ✓ lint                                                                    0.7s
              ⠋ test (stable, postgres)                                                 2.2s
                  ⠋ unit tests                                                          1.3s
                    │ test b ... FAILED
              ○ test (beta, 漢字)        no runner has the label `gpu`; connected runners: 1
              ○ build                    needs test
              ○ deploy                   needs lint, build"#]],
        );
        check(
            &Moment {
                footer: Some("canceling"),
                ..moment(8)
            },
            &expect![[r#"
            ci  run 7, 1 of 5 jobs done                                                 3.2s
              ✓ lint                                                                    0.7s
              ⠋ test (stable, postgres)                                                 2.2s
              ○ test (beta, 漢字)        no runner has the label `gpu`; connected runners: 1
              ○ build                    needs test
              ○ deploy                   needs lint, build
              canceling"#]],
        );
    }

    #[test]
    fn with_almost_no_room_jobs_are_counted() {
        check(
            &moment(5),
            &expect![[r#"
            ci  run 7, 1 of 5 jobs done                                                 3.2s
              ⠋ test (stable, postgres)                                                 2.2s
              ○ test (beta, 漢字)        no runner has the label `gpu`; connected runners: 1
              … and 3 more: 2 waiting, 1 done"#]],
        );
    }

    #[test]
    fn steps_that_run_at_the_same_time_share_the_room_for_their_output() {
        let mut board = sample::together();
        for (step, text) in [
            (1, "linting a"),
            (3, "test a"),
            (1, "linting b"),
            (3, "test b"),
        ] {
            board.log(&sample::line_of(step, text));
        }
        let shown = |rows| frame(&board, &moment(rows)).join("\n");
        expect![[r#"
            ci  run 7, 0 of 1 job done                                                  3.2s
              ⠋ check                                                                   2.2s
                  ✓ fetch                                                               0.5s
                  ⠋ lint                                                                1.7s
                    │ linting a
                    │ linting b
                  ✗ docs  exit code 3                                                   0.9s
                  ⠋ unit tests                                                          1.7s
                    │ test a
                    │ test b"#]]
        .assert_eq(&shown(24));
        expect![[r#"
            ci  run 7, 0 of 1 job done                                                  3.2s
              ⠋ check                                                                   2.2s
                  ⠋ lint                                                                1.7s
                    │ linting b
                  ⠋ unit tests                                                          1.7s
                    │ test b"#]]
        .assert_eq(&shown(7));
        for rows in 4..14 {
            let lines = frame(&board, &moment(rows));
            assert!(lines.len() < rows, "{rows} {lines:?}");
        }
    }

    #[test]
    fn a_narrow_terminal_is_respected() {
        let look = Look {
            columns: 30,
            ..sample::look(Sink::Terminal)
        };
        check(
            &Moment { look, ..moment(24) },
            &expect![[r#"
            ci  run 7, 1 of 5 jobs d… 3.2s
              ✓ lint                  0.7s
              ⠋ test (stab…           2.2s
                  ✓ build             0.9s
                  ⠋ unit tests        1.3s
                    │ running 3 tests
                    │ test a ... ok
                    │ test b ... FAILED
              ○ test (beta…  no runner ha…
              ○ build        needs test
              ○ deploy       needs lint, …"#]],
        );
    }

    #[test]
    fn no_size_makes_it_wrap_or_overflow() {
        for columns in 0..100 {
            for rows in 4..14 {
                let look = Look {
                    columns,
                    colour: Colour::On,
                    ..sample::look(Sink::Terminal)
                };
                let lines = frame(
                    &sample::running(),
                    &Moment {
                        look,
                        ..moment(rows)
                    },
                );
                assert!(lines.len() < rows);
                assert!(
                    lines.iter().all(|line| width(line) <= columns),
                    "{columns} {lines:?}"
                );
            }
        }
    }

    #[test]
    fn colours_of_jobs_stay_and_their_other_sequences_do_not() {
        let look = Look {
            colour: Colour::On,
            ..sample::look(Sink::Terminal)
        };
        let text = frame(&sample::running(), &Moment { look, ..moment(24) }).join("\n");
        assert!(text.contains("\u{1b}[31mFAILED\u{1b}[0m"));
        assert!(!text.contains("\u{1b}[2J"));
    }
}
