//! Tables: plans and lists of runs.

use std::collections::BTreeMap;

use rustci_pipeline::{Job, Plan, Step};

use super::board::{Mood, elapsed};
use super::job::Look;
use super::plan as words;
use super::style::{ago, duration};
use super::text::{Keep, clean, cut, fit, width, wrap};
use crate::api::view::{Conclusion, RunSummary};
use crate::failure::plural;

/// No column is cut below that.
const COLUMN_MIN: usize = 8;
/// Columns that the last column has at least.
const LAST_COLUMN_MIN: usize = 12;

/// Rows of cells as lines: columns as wide as their widest cell, the last one wrapped.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], look: Look) -> Vec<String> {
    let columns = head.len();
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (wide, cell) in widths.iter_mut().zip(row) {
            *wide = (*wide).max(width(cell)).min(look.columns / 2);
        }
    }
    narrow(&mut widths, look.columns);
    let fixed: usize = widths
        .iter()
        .take(columns.saturating_sub(1))
        .map(|wide| wide + 2)
        .sum();
    let room = look.columns.saturating_sub(fixed + 2).max(LAST_COLUMN_MIN);
    let head: Vec<String> = head.iter().map(|cell| look.colour.dim(cell)).collect();
    let mut lines = vec![join(&head, &widths)];
    for row in rows {
        let (last, front) = row
            .split_last()
            .map_or((String::new(), row.as_slice()), |(last, front)| {
                (last.clone(), front)
            });
        let mut pieces = wrap(&last, room).into_iter();
        let mut cells = front.to_vec();
        cells.push(pieces.next().unwrap_or_default());
        lines.push(join(&cells, &widths));
        lines.extend(pieces.map(|piece| format!("{:indent$}{piece}", "", indent = fixed + 2)));
    }
    lines
}

/// Takes from the widest of the front columns until the last one has its room: long names are cut,
/// short cells stay whole.
fn narrow(widths: &mut [usize], columns: usize) {
    let Some((_, front)) = widths.split_last_mut() else {
        return;
    };
    loop {
        let taken: usize = front.iter().map(|wide| wide + 2).sum();
        let widest = front.iter_mut().max().filter(|wide| **wide > COLUMN_MIN);
        match widest {
            Some(wide) if taken + 2 + LAST_COLUMN_MIN > columns => *wide -= 1,
            _ => return,
        }
    }
}

fn join(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::from(" ");
    let last = cells.len().saturating_sub(1);
    for (at, (cell, wide)) in cells.iter().zip(widths).enumerate() {
        line.push(' ');
        if at == last {
            line.push_str(cell);
        } else {
            line.push_str(&fit(cell, *wide));
            line.push(' ');
        }
    }
    line.trim_end().to_owned()
}

/// What a pipeline would run: its jobs by stage, with needs, conditions, matrix and steps.
pub(crate) fn plan(plan: &Plan, look: Look) -> String {
    let stages = stages(plan);
    let mut groups = groups(plan);
    let stage_of = |group: &Vec<&Job>| {
        let id = group.first().map_or("", |job| job.id.as_str());
        stages.get(id).copied().unwrap_or(1)
    };
    groups.sort_by_key(stage_of);
    let mut lines = vec![
        format!(
            "{}  {}",
            look.colour.bold(&clean(&plan.name, Keep::Text)),
            plan.file
        ),
        look.colour.dim(&format!("plan sha256:{}", plan.digest())),
    ];
    if let Some(slot) = &plan.concurrency {
        let line = clean(&words::slot(slot), Keep::Text).into_owned();
        lines.push(cut(&line, look.columns).into_owned());
    }
    let mut last = 0;
    for group in &groups {
        let stage = stage_of(group);
        if stage != last {
            lines.push(String::new());
            lines.push(look.colour.dim(&format!("stage {stage}")));
        }
        last = stage;
        lines.extend(job_lines(group, look));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A job, or all instances of a matrix.
fn job_lines(group: &[&Job], look: Look) -> Vec<String> {
    let Some(job) = group.first() else {
        return Vec::new();
    };
    let name = look.colour.bold(&clean(&job.id, Keep::Text));
    let count = if job.group.is_some() {
        format!(" ×{}", group.len())
    } else {
        String::new()
    };
    let traits = traits(job);
    let traits = if traits.is_empty() {
        traits
    } else {
        format!("  {traits}")
    };
    let mut lines = vec![cut(&format!("  {name}{count}{traits}"), look.columns).into_owned()];
    let mut more = Vec::new();
    if !job.needs.is_empty() {
        more.push(format!("after {}", job.needs.join(", ")));
    }
    more.extend(
        job.condition
            .as_ref()
            .map(|condition| format!("if {condition}")),
    );
    if let Some(matrix) = &job.group {
        let values = group
            .iter()
            .map(|job| job.key.strip_prefix(&job.id).unwrap_or(&job.key).trim());
        let at_once = matrix.max_parallel.map(|max| format!(", {max} at a time"));
        let values = values.collect::<Vec<_>>().join(" ");
        more.push(format!("matrix {values}{}", at_once.unwrap_or_default()));
    }
    more.extend(words::words(job));
    let steps: Vec<String> = job.together().map(steps_words).collect();
    more.push(format!(
        "{}: {}",
        plural(job.steps.len(), "step"),
        steps.join(", ")
    ));
    more.extend(words::words_after(job));
    for text in more {
        let pieces = wrap(&clean(&text, Keep::Text), look.columns.saturating_sub(8));
        lines.extend(pieces.iter().enumerate().map(|(at, piece)| {
            let indent = if at == 0 { 6 } else { 8 };
            format!("{:indent$}{}", "", look.colour.dim(piece))
        }));
    }
    lines
}

/// What sets a job apart from one without any options.
fn traits(job: &Job) -> String {
    let mut words = Vec::new();
    let labels = [job.runs_on.all.join(" + "), job.runs_on.any.join(" or ")];
    let labels: Vec<&str> = labels
        .iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    if !labels.is_empty() {
        words.push(format!("on {}", labels.join(" and ")));
    }
    if job.group.as_ref().is_some_and(|matrix| matrix.fail_fast) {
        words.push("first failure cancels the rest".to_owned());
    }
    if job.retry.max > 0 {
        words.push(format!(
            "up to {} more {}",
            job.retry.max,
            plural_of(job.retry.max, "attempt")
        ));
    }
    if may_fail(&job.continue_on_error) {
        words.push("may fail".to_owned());
    }
    words.push(format!("limit {}", duration(job.timeout_ms)));
    clean(&words.join(", "), Keep::Text).into_owned()
}

/// Steps that start together; most often that is one.
fn steps_words(together: &[Step]) -> String {
    let words: Vec<String> = together.iter().map(step_words).collect();
    match words.as_slice() {
        [only] => only.clone(),
        _ => format!("{} at the same time", words.join(" + ")),
    }
}

/// A step's name with its options.
fn step_words(step: &Step) -> String {
    let mut words = Vec::new();
    words.extend(
        step.condition
            .as_ref()
            .map(|condition| format!("if {condition}")),
    );
    if step.retry.max > 0 {
        words.push(format!(
            "up to {} more {}",
            step.retry.max,
            plural_of(step.retry.max, "attempt")
        ));
    }
    words.extend(step.timeout_ms.map(|ms| format!("limit {}", duration(ms))));
    if may_fail(&step.continue_on_error) {
        words.push("may fail".to_owned());
    }
    let options = if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", words.join(", "))
    };
    format!("`{}`{options}", step.name)
}

fn may_fail(continue_on_error: &str) -> bool {
    !matches!(continue_on_error, "" | "false")
}

fn plural_of(count: u32, word: &str) -> String {
    plural(usize::try_from(count).unwrap_or(usize::MAX), word)
}

/// The instances of each matrix together, in the order of the file.
fn groups(plan: &Plan) -> Vec<Vec<&Job>> {
    let mut groups: Vec<Vec<&Job>> = Vec::new();
    for job in &plan.jobs {
        match groups.last_mut() {
            Some(group) if group.first().is_some_and(|first| first.id == job.id) => group.push(job),
            _ => groups.push(vec![job]),
        }
    }
    groups
}

/// The earliest stage of each job: 1, or one after the latest of its needs.
fn stages(plan: &Plan) -> BTreeMap<&str, usize> {
    let mut stages: BTreeMap<&str, usize> = BTreeMap::new();
    // A plan has no cycles, so each round settles at least one more stage; most plans need a few.
    loop {
        let before = stages.clone();
        for job in &plan.jobs {
            let needs = job
                .needs
                .iter()
                .map(|need| stages.get(need.as_str()).copied().unwrap_or(1));
            stages.insert(&job.id, needs.max().map_or(1, |latest| latest + 1));
        }
        if stages == before || stages.values().any(|stage| *stage > plan.jobs.len()) {
            return stages;
        }
    }
}

/// Runs, one line each. The project is named when there are several.
pub(crate) fn runs(runs: &[RunSummary], look: Look, now_ms: u64) -> String {
    let first = runs.first().map(|run| run.project.as_str());
    let several = runs.iter().any(|run| Some(run.project.as_str()) != first);
    let mut head = vec!["RUN", "PIPELINE", "RESULT", "EVENT", "TOOK", "WHEN"];
    if several {
        head.insert(1, "PROJECT");
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let mut row = run_row(run, look, now_ms);
            if several {
                row.insert(1, clean(&run.project, Keep::Text).into_owned());
            }
            row
        })
        .collect();
    let mut lines = table(&head, &rows, look);
    lines.push(String::new());
    lines.join("\n")
}

fn run_row(run: &RunSummary, look: Look, now_ms: u64) -> Vec<String> {
    let mood = Mood::of(run.status, run.conclusion);
    let result = run
        .conclusion
        .map_or(run.status.as_str(), Conclusion::as_str);
    let result = result.replace('_', " ");
    let took = elapsed(Some(run.created_ms), run.finished_ms, now_ms);
    vec![
        run.id.to_string(),
        clean(&run.pipeline, Keep::Text).into_owned(),
        look.paint(mood, &format!("{} {result}", mood.symbol(None))),
        run.event.name.clone(),
        took.map(duration).unwrap_or_default(),
        ago(run.created_ms, now_ms),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use rustci_pipeline::PlanRequest;

    use super::super::sample;
    use super::super::style::Sink;
    use super::*;
    use crate::api::view::RunView;

    fn summary_of(run: RunView) -> RunSummary {
        serde_json::from_value(serde_json::to_value(run).unwrap()).unwrap()
    }

    #[test]
    fn runs_have_a_line_each() {
        let list = [sample::failed(), sample::running()].map(|board| summary_of(board.run));
        let text = runs(
            &list,
            sample::look(Sink::Terminal),
            sample::NOW_MS + 120_000,
        );
        // A first line without indentation keeps the others' from being taken for the test's own.
        expect![[r#"
            runs
              RUN  PIPELINE  RESULT     EVENT   TOOK   WHEN
              7    ci        ✗ failure  manual  4.6s   2m ago
              7    ci        ● running  manual  2m03s  2m ago
        "#]]
        .assert_eq(&format!("runs\n{text}"));
    }

    #[test]
    fn a_plan_shows_stages_matrix_and_options() {
        let text = r#"
name: shop
jobs:
  lint: { steps: [{ run: make lint }] }
  test:
    needs: [lint]
    matrix: { axes: { db: [postgres, sqlite] }, fail-fast: false, max-parallel: 1 }
    timeout: 10m
    steps:
      - parallel:
          - { name: unit, run: make test, retry: { max: 2 }, timeout: 90s }
          - { run: make docs }
      - { name: collect logs, if: failure(), run: make logs, continue-on-error: true }
  deploy:
    needs: [test]
    if: event.name == 'push'
    runs-on: { all: [gpu] }
    continue-on-error: true
    steps: [{ run: make deploy }]
"#;
        let parsed = rustci_pipeline::parse("ci.yaml", text);
        let Some(pipeline) = parsed.pipeline else {
            panic!("{:?}", parsed.diagnostics)
        };
        let planned = rustci_pipeline::plan(&pipeline, &PlanRequest::default()).unwrap();
        let shown = plan(&planned.plan, sample::look(Sink::Terminal));
        let shown: Vec<&str> = shown
            .lines()
            .filter(|line| !line.contains("sha256"))
            .collect();
        expect![[r#"
            shop  ci.yaml

            stage 1
              lint  limit 1h00m
                  step: `make lint`

            stage 2
              test ×2  limit 10m00s
                  after lint
                  matrix (postgres) (sqlite), 1 at a time
                  steps: `unit` (up to 2 more attempts, limit 1m30s) + `make docs` at the
                    same time, `collect logs` (if failure(), may fail)

            stage 3
              deploy  on gpu, may fail, limit 1h00m
                  after test
                  if event.name == 'push'
                  step: `make deploy`"#]]
        .assert_eq(&shown.join("\n"));
    }

    #[test]
    fn a_plan_shows_what_jobs_wait_for_take_and_leave() {
        let text = r#"
name: shop
concurrency: { group: "ci-${{ git.branch }}", cancel-in-progress: true, queue: 5 }
jobs:
  find:
    checkout: false
    outputs: { dirs: x }
    steps: [{ run: make list }]
    artifacts: { name: list, paths: list.json }
  test:
    needs: [find]
    matrix:
      axes: { dir: "${{ fromJSON(needs.find.outputs.dirs) }}", mode: [debug] }
      max-parallel: 2
    cache: { key: "cargo-${{ hashFiles('Cargo.lock') }}", paths: [target, ~/.cargo], policy: pull }
    downloads: [list, { name: list, path: lists }]
    steps: [{ run: make test }]
    artifacts: { name: "log-${{ matrix.dir }}", paths: ["*.log"], when: failure, expire: 7d, if-missing: error }
    reports: { junit: "**/junit.xml" }
  deploy:
    needs: [test]
    environment: { name: production, approval: { from: [alice, team/ops], timeout: 36h } }
    concurrency: deploy
    permissions: { contents: read, id-token: write }
    steps: [{ run: make deploy }]
"#;
        let parsed = rustci_pipeline::parse("ci.yaml", text);
        let Some(pipeline) = parsed.pipeline else {
            panic!("{:?}", parsed.diagnostics)
        };
        let planned = rustci_pipeline::plan(&pipeline, &PlanRequest::default()).unwrap();
        let shown = plan(&planned.plan, sample::look(Sink::Terminal));
        let shown: Vec<&str> = shown
            .lines()
            .filter(|line| !line.contains("sha256"))
            .collect();
        expect![[r#"
            shop  ci.yaml
            one at a time in ci-${{ git.branch }}, a newcomer cancels it, at most 5 wait

            stage 1
              find  limit 1h00m
                  without source
                  step: `make list`
                  keeps list: list.json

            stage 2
              test  limit 1h00m
                  after find
                  matrix {"axes":{"dir":${{ fromJSON(needs.find.outputs.dirs)
                    }},"mode":["debug"]}}, 2 at a time
                  cache cargo-${{ hashFiles('Cargo.lock') }}: target, ~/.cargo, only
                    restored
                  takes list, list into lists
                  step: `make test`
                  keeps log-${{ matrix.dir }}: *.log, on failure, for 7d, has to be there
                  test reports **/junit.xml

            stage 3
              deploy  limit 1h00m
                  after test
                  in production, once alice or team/ops has approved within 1d12h
                  one at a time in deploy
                  token: contents read, id-token write
                  step: `make deploy`"#]]
        .assert_eq(&shown.join("\n"));
    }

    #[test]
    fn long_names_are_cut_until_a_line_fits() {
        let long = "a-name-that-nobody-would-type-twice-in-a-row".repeat(2);
        let cells = [
            "1".to_owned(),
            long.clone(),
            long,
            "✓ success".to_owned(),
            "just now".to_owned(),
        ];
        let head = ["RUN", "PROJECT", "PIPELINE", "RESULT", "WHEN"];
        for columns in [80, 120] {
            let look = Look {
                columns,
                ..sample::look(Sink::Terminal)
            };
            let lines = table(&head, &[cells.to_vec()], look);
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
            assert!(lines[1].contains("✓ success") && lines[1].ends_with("just now"));
        }
    }

    #[test]
    fn the_last_column_wraps() {
        let rows = [vec!["a".to_owned(), "word ".repeat(20)]];
        let lines = table(&["X", "Y"], &rows, sample::look(Sink::Terminal));
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| width(line) <= 80));
    }
}
