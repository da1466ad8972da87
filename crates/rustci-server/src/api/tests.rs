//! Tests and summaries: what the jobs of a run reported, and how tests come out over time.

use axum::extract::State;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::answers::NotFound;
use crate::api::extract::{Path, Query};
use crate::api::page::{Cursor, Limit, Page, Word};
use crate::api::problem::{ApiError, Listed};
use crate::api::view::{
    SummaryList, TestHistory, TestList, TestOrder, TestOutcome, TestStatsList, TestVerdict,
};
use crate::catalogue::{Catalogue, HistoryFilter, TestFilter, Texts};
use crate::limits::{HISTORY_RUNS, HISTORY_RUNS_MAX};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(summaries))
        .routes(routes!(of_run))
        .routes(routes!(of_project))
        .routes(routes!(history))
}

/// The query of a list without filters.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Entries in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<Cursor>,
}

/// The query of the summaries of a run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SummaryQuery {
    /// Summaries in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<Cursor>,
    /// `false` leaves the texts out.
    #[param(default = true)]
    text: Option<bool>,
}

/// The query of the tests of a run.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestQuery {
    /// Tests in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<Cursor>,
    /// Only tests that came out so.
    #[param(inline)]
    outcome: Option<TestOutcome>,
}

/// The query of the tests of a project.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatsQuery {
    /// Tests in one page.
    #[serde(default)]
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 20)]
    limit: Limit,
    /// Where the page begins: the `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    cursor: Option<Cursor>,
    /// Only tests whose name, class or suite has this text.
    #[param(value_type = Option<String>, max_length = 255)]
    query: Option<Word>,
    /// Only tests with this verdict.
    #[param(inline)]
    verdict: Option<TestVerdict>,
    /// What comes first.
    #[serde(default)]
    #[param(inline, required = false)]
    order: TestOrder,
    /// How many of the newest runs with tests count.
    #[param(minimum = 1, maximum = 200, default = 30)]
    runs: Option<u32>,
}

/// What the steps of a run wrote for people.
///
/// Of a job that was tried again, its newest attempt counts.
#[utoipa::path(
    get, path = "/runs/{id}/summaries", operation_id = "list_summaries", tag = "tests",
    params(("id" = u64, Path, description = "Number of the run."), SummaryQuery),
    responses((status = 200, description = "A page of Markdown texts.", body = SummaryList),
              NotFound)
)]
async fn summaries(
    State(app): State<App>,
    Path(id): Path<u64>,
    Query(query): Query<SummaryQuery>,
) -> Result<Page<SummaryList>, ApiError> {
    let (skip, limit) = (skip(query.cursor), query.limit.get());
    let texts = match query.text {
        Some(false) => Texts::Without,
        _ => Texts::With,
    };
    let ask = move |catalogue: &Catalogue| catalogue.summaries(id, skip, limit, texts);
    let body = app.queries.ask(ask).await?;
    if body.summaries.is_empty() {
        known(&app, id).await?;
    }
    let next = body.next.clone();
    Ok(Page { body, next })
}

/// The tests of a run, those that failed first.
///
/// Of a job that was tried again, its newest attempt counts.
#[utoipa::path(
    get, path = "/runs/{id}/tests", operation_id = "list_run_tests", tag = "tests",
    params(("id" = u64, Path, description = "Number of the run."), TestQuery),
    responses((status = 200, description = "A page of tests.", body = TestList), NotFound)
)]
async fn of_run(
    State(app): State<App>,
    Path(id): Path<u64>,
    Query(query): Query<TestQuery>,
) -> Result<Page<TestList>, ApiError> {
    let filter = TestFilter {
        run: id,
        outcome: query.outcome,
        skip: skip(query.cursor),
        limit: query.limit.get(),
    };
    let ask = move |catalogue: &Catalogue| catalogue.tests(&filter);
    let body = app.queries.ask(ask).await?;
    if body.reports.is_empty() {
        known(&app, id).await?;
    }
    let next = body.next.clone();
    Ok(Page { body, next })
}

/// How the tests of a project came out in its newest runs.
///
/// A project that has no tests gives an empty list.
#[utoipa::path(
    get, path = "/projects/{project}/tests", operation_id = "list_project_tests", tag = "tests",
    params(("project" = String, Path, description = "Name of the project."), StatsQuery),
    responses((status = 200, description = "A page of tests.", body = TestStatsList))
)]
async fn of_project(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(query): Query<StatsQuery>,
) -> Result<Page<TestStatsList>, ApiError> {
    let runs = query.runs.unwrap_or(HISTORY_RUNS);
    if !(1..=HISTORY_RUNS_MAX).contains(&runs) {
        let text = format!("runs is a number from 1 to {HISTORY_RUNS_MAX}, not {runs}");
        return Err(ApiError::Invalid(text));
    }
    let filter = HistoryFilter {
        project,
        text: query
            .query
            .map(|Word(text)| text)
            .filter(|text| !text.is_empty()),
        verdict: query.verdict,
        order: query.order,
        runs,
        skip: skip(query.cursor),
        limit: query.limit.get(),
    };
    let ask = move |catalogue: &Catalogue| catalogue.test_stats(&filter);
    let body = app.queries.ask(ask).await?;
    let next = body.next.clone();
    Ok(Page { body, next })
}

/// The results of one test, the newest first.
#[utoipa::path(
    get, path = "/projects/{project}/tests/{test}", operation_id = "get_test_history",
    tag = "tests",
    params(
        ("project" = String, Path, description = "Name of the project."),
        ("test" = u32, Path, description = "Number of the test in the project."),
        PageQuery
    ),
    responses((status = 200, description = "A page of results.", body = TestHistory), NotFound)
)]
async fn history(
    State(app): State<App>,
    Path((project, test)): Path<(String, u32)>,
    Query(query): Query<PageQuery>,
) -> Result<Page<TestHistory>, ApiError> {
    let (skip, limit) = (skip(query.cursor), query.limit.get());
    let what = format!("test {test} of project {project:?}");
    let ask =
        move |catalogue: &Catalogue| catalogue.test_history(&project, i64::from(test), skip, limit);
    let body = app.queries.ask(ask).await?;
    let body = body.ok_or(ApiError::NotFound {
        listed: Listed::Tests,
        what,
    })?;
    let next = body.next.clone();
    Ok(Page { body, next })
}

fn skip(cursor: Option<Cursor>) -> u64 {
    cursor.map_or(0, |Cursor(skip)| skip)
}

/// A run without tests is no error, a run that does not exist is.
async fn known(app: &App, id: u64) -> Result<(), ApiError> {
    let run = app.queries.ask(move |catalogue| catalogue.run(id)).await?;
    run.map(drop).ok_or_else(|| ApiError::NotFound {
        listed: Listed::Runs,
        what: format!("run {id}"),
    })
}
