//! `rustci tests`, and what other commands show of tests and summaries.

use super::runs::find;
use super::watch::now_ms;
use crate::api::client::{Api, encoded};
use crate::api::view::{
    SummaryList, TestHistory, TestList, TestOrder, TestOutcome, TestStats, TestStatsList,
    TestVerdict,
};
use crate::args::TestsArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::board::Board;
use crate::render::reports as render;
use crate::server::{Place, places};

/// Does what the options say.
///
/// # Errors
/// An unknown run or test, or a place that cannot be asked.
pub(crate) async fn tests(args: &TestsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let places = places(&args.place).await?;
    let place = places.first().ok_or_else(|| Failure::NoRuns {
        place: "here".to_owned(),
        server: String::new(),
    })?;
    match (&args.history, args.flaky, args.slowest) {
        (Some(name), ..) => history(place, name, args.limit, out).await,
        (None, true, _) => {
            let query = format!(
                "&verdict={}&order={}",
                word(TestVerdict::Flaky),
                word(TestOrder::Flaky)
            );
            project(place, &query, args.limit, out).await
        }
        (None, false, true) => {
            let query = format!("&order={}", word(TestOrder::Slowest));
            project(place, &query, args.limit, out).await
        }
        (None, false, false) => of_run(place, args, out).await,
    }
}

/// A value of an enumeration as the API spells it.
fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

async fn of_run(place: &Place, args: &TestsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let run = find(place, args.run).await?;
    let path = format!("/api/v1/runs/{}/tests?limit={}", run.id, args.limit);
    let mut list: TestList = place.api.get(&path).await?;
    if out.format() == Format::Json {
        return out.json(&list).map(|()| Exit::Success);
    }
    if list.reports.is_empty() {
        let text = format!(
            "run {} has no test reports; `reports` in the pipeline file names them\n",
            run.id
        );
        return out.text(&text).map(|()| Exit::Success);
    }
    if !args.all {
        list.tests
            .retain(|test| matches!(test.outcome, TestOutcome::Failed | TestOutcome::Errored));
    }
    out.text(&render::list(&list, out.look()))
        .map(|()| Exit::Success)
}

async fn project(
    place: &Place,
    query: &str,
    limit: u32,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let list = stats(place, query, limit).await?;
    if out.format() == Format::Json {
        return out.json(&list).map(|()| Exit::Success);
    }
    if list.tests.is_empty() {
        return out
            .text("no such tests in the newest runs\n")
            .map(|()| Exit::Success);
    }
    out.text(&render::stats(&list.tests, out.look(), now_ms()))
        .map(|()| Exit::Success)
}

async fn stats(place: &Place, query: &str, limit: u32) -> Result<TestStatsList, Failure> {
    let project = encoded(&find(place, None).await?.project);
    let path = format!("/api/v1/projects/{project}/tests?limit={limit}{query}");
    place.api.get(&path).await
}

/// One test when the name fits one, or fits one exactly; else those that it fits.
async fn history(place: &Place, name: &str, limit: u32, out: &mut Output) -> Result<Exit, Failure> {
    // A class and a name as they are shown.
    let part = name.rsplit('›').next().unwrap_or(name).trim();
    let found = stats(place, &format!("&query={}", encoded(part)), 200)
        .await?
        .tests;
    let Some(test) = choose(&found, name, part) else {
        return several(place, &found, name, out);
    };
    let project = encoded(&find(place, None).await?.project);
    let path = format!(
        "/api/v1/projects/{project}/tests/{}?limit={limit}",
        test.test
    );
    let history: TestHistory = place.api.get(&path).await?;
    match out.format() {
        Format::Json => out.json(&history)?,
        Format::Text => out.text(&render::history(&history, out.look(), now_ms()))?,
    }
    Ok(Exit::Success)
}

fn choose<'t>(found: &'t [TestStats], whole: &str, part: &str) -> Option<&'t TestStats> {
    let is_exact =
        |test: &&TestStats| test.name == part && (whole == part || whole.starts_with(&test.class));
    let mut exact = found.iter().filter(is_exact);
    match (found, exact.next(), exact.next()) {
        ([test], ..) | (_, Some(test), None) => Some(test),
        _ => None,
    }
}

fn several(
    place: &Place,
    found: &[TestStats],
    name: &str,
    out: &mut Output,
) -> Result<Exit, Failure> {
    if found.is_empty() {
        return Err(Failure::Usage {
            message: format!("no test of the newest runs has {name:?} in its name"),
            hint: format!(
                "`rustci tests --all{}` shows the tests of the newest run",
                place.arguments
            ),
        });
    }
    match out.format() {
        Format::Json => out.json(&TestStatsList {
            tests: found.to_vec(),
            next: None,
        })?,
        Format::Text => {
            let text = render::stats(found, out.look(), now_ms());
            out.text(&format!(
                "{} tests have {name:?} in their names:\n{text}",
                found.len()
            ))?;
        }
    }
    Ok(Exit::Success)
}

/// Puts on the board what the run left for people: tests and summaries.
///
/// # Errors
/// As [`Api::find`](Api::find).
pub(super) async fn load_results(api: &Api, board: &mut Board) -> Result<(), Failure> {
    let run = board.run.id;
    // A server of an older version has no such routes.
    board.tests = api
        .find(&format!("/api/v1/runs/{run}/tests?limit=20"))
        .await?;
    let path = format!("/api/v1/runs/{run}/summaries?limit=200&text=false");
    let summaries: Option<SummaryList> = api.find(&path).await?;
    board.summaries = summaries.map_or(0, |list| list.summaries.len());
    Ok(())
}
