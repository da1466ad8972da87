//! A matrix whose values are known only while the run goes on.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::limits::{COMBINATIONS_MAX, JOBS_MAX, MATRIX_MAX, NAME_CHARS_MAX, PLAN_TEXT_BYTES_MAX};
use crate::matrix::{self, Axis, Instance};
use crate::plan::{DynamicMatrix, Job, MatrixGroup, Plan};

/// What a dynamic matrix came down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expanded {
    /// It has no instance: the job has nothing to do.
    Empty,
    /// The plan with the instances: the first one in the job's place, the others behind all jobs.
    Plan(Plan),
}

/// Why a value is no matrix. The texts complete "the matrix of job `x` ..".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// There is no such job, or its matrix is not dynamic.
    #[error("cannot be expanded: job {0} of the plan has no dynamic matrix")]
    NotDynamic(usize),
    /// The value, or a part of it, is of the wrong kind.
    #[error("has the wrong shape: {what} is {found}, not {wanted}")]
    Type {
        /// `axis "os"`.
        what: String,
        /// `text`.
        found: &'static str,
        /// `a list`.
        wanted: &'static str,
    },
    /// A name has characters that are not allowed.
    #[error(
        "has the name {0:?}; names have up to {NAME_CHARS_MAX} letters, digits, `_` and `-`, and \
         begin with a letter or `_`"
    )]
    Name(String),
    /// A key beside `axes`, `include` and `exclude`.
    #[error("has the unknown key {0:?} beside `axes`; `include` and `exclude` may stand there")]
    Key(String),
    /// An entry of `exclude` names something that is no axis.
    #[error("excludes by {0:?}, which is not an axis")]
    NotAnAxis(String),
    /// Two instances cannot be told apart.
    #[error("has two instances that come out as `{0}`; give them different values")]
    Duplicate(String),
    /// There are more instances than one matrix may have.
    #[error("has {count} instances; at most {MATRIX_MAX} are allowed")]
    TooMany {
        /// How many there are, or combinations when those are too many to look at.
        count: usize,
    },
    /// The run would have more jobs than it may.
    #[error("makes {count} jobs of the run; at most {JOBS_MAX} are allowed")]
    TooManyJobs {
        /// How many there would be.
        count: usize,
    },
    /// The text of all instances is too long.
    #[error("needs more than {PLAN_TEXT_BYTES_MAX} bytes for the text of its instances")]
    TooLarge,
}

/// Makes the instances of the dynamic matrix of the job at `place`, from the value that its
/// expression has now.
///
/// The same plan and value always give the same result, byte for byte: names keep the order that
/// they have in the value.
///
/// # Errors
/// [`ExpandError`] when the value is no matrix, or one that is too large. The job then has an
/// error.
pub fn expand(plan: &Plan, place: usize, value: &Value) -> Result<Expanded, ExpandError> {
    let job = plan.jobs.get(place);
    let dynamic = job.and_then(|job| job.dynamic.as_ref());
    let (job, dynamic) = job.zip(dynamic).ok_or(ExpandError::NotDynamic(place))?;
    let (names, instances) = read(value)?;
    if instances.len() > MATRIX_MAX {
        let count = instances.len();
        return Err(ExpandError::TooMany { count });
    }
    check_size(plan, job, &instances)?;
    let mut made = instances
        .into_iter()
        .map(|values| instance(job, dynamic, &names, values));
    let Some(first) = made.next() else {
        return Ok(Expanded::Empty);
    };
    let mut jobs = plan.jobs.clone();
    if let Some(slot) = jobs.get_mut(place) {
        *slot = first;
    }
    jobs.extend(made);
    check_keys(&jobs, &job.id)?;
    Ok(Expanded::Plan(Plan {
        jobs,
        ..plan.clone()
    }))
}

/// One instance of a job.
fn instance(job: &Job, dynamic: &DynamicMatrix, names: &[String], values: Instance) -> Job {
    let key = matrix::key(&job.id, names, &values);
    // A job without a name of its own is called like its id, which its instances share.
    let own = (job.name != job.id).then(|| job.name.clone());
    let mut instance = Job {
        name: own.unwrap_or_else(|| key.clone()),
        key,
        matrix: values,
        group: Some(MatrixGroup {
            id: job.id.clone(),
            fail_fast: dynamic.fail_fast,
            max_parallel: dynamic.max_parallel,
        }),
        dynamic: None,
        ..job.clone()
    };
    matrix::fill(&mut instance);
    instance
}

/// Names and instances of a value.
fn read(value: &Value) -> Result<(Vec<String>, Vec<Instance>), ExpandError> {
    let Value::Object(map) = value else {
        let rows = rows(value, "the value", "a mapping or a list of mappings")?;
        return Ok((matrix::names(&[], &rows), rows));
    };
    let (axes, include, exclude) = match map.get("axes") {
        // An axis that is called `axes` has a list.
        Some(Value::Object(axes)) => {
            let other = |name: &&String| !["axes", "include", "exclude"].contains(&name.as_str());
            if let Some(name) = map.keys().find(other) {
                return Err(ExpandError::Key(name.clone()));
            }
            (
                read_axes(axes, &[])?,
                map.get("include"),
                map.get("exclude"),
            )
        }
        _ => (
            read_axes(map, &["include", "exclude"])?,
            map.get("include"),
            map.get("exclude"),
        ),
    };
    let count = matrix::combinations(&axes);
    if count > COMBINATIONS_MAX {
        return Err(ExpandError::TooMany { count });
    }
    if matrix::product_bytes(&axes) > PLAN_TEXT_BYTES_MAX {
        return Err(ExpandError::TooLarge);
    }
    let mut instances = matrix::product(&axes);
    for row in optional_rows(exclude, "exclude")? {
        if let Some(name) = row.keys().find(|name| !is_axis(&axes, name)) {
            return Err(ExpandError::NotAnAxis(name.clone()));
        }
        matrix::exclude(&mut instances, &row);
    }
    let included = optional_rows(include, "include")?;
    if matrix::include_bytes(&instances, &included) > PLAN_TEXT_BYTES_MAX {
        return Err(ExpandError::TooLarge);
    }
    let names = matrix::names(&axes, &included);
    Ok((names, matrix::include(instances, &axes, included)))
}

fn is_axis(axes: &[Axis], name: &str) -> bool {
    axes.iter().any(|axis| axis.name == name)
}

/// The axes of a mapping, all of its names but some.
fn read_axes(map: &Map<String, Value>, but: &[&str]) -> Result<Vec<Axis>, ExpandError> {
    let axes = map.iter().filter(|(name, _)| !but.contains(&name.as_str()));
    axes.map(|(name, value)| {
        check_name(name)?;
        let Value::Array(values) = value else {
            return Err(ExpandError::Type {
                what: format!("axis {name:?}"),
                found: kind(value),
                wanted: "a list",
            });
        };
        Ok(Axis {
            name: name.clone(),
            values: values.clone(),
        })
    })
    .collect()
}

/// A list of mappings that may be missing.
fn optional_rows(value: Option<&Value>, what: &str) -> Result<Vec<Instance>, ExpandError> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => rows(value, &format!("`{what}`"), "a list of mappings"),
    }
}

/// A list of mappings.
fn rows(value: &Value, what: &str, wanted: &'static str) -> Result<Vec<Instance>, ExpandError> {
    let wrong = |what: String, value: &Value, wanted| ExpandError::Type {
        what,
        found: kind(value),
        wanted,
    };
    let Value::Array(items) = value else {
        return Err(wrong(what.to_owned(), value, wanted));
    };
    if items.len() > MATRIX_MAX {
        let count = items.len();
        return Err(ExpandError::TooMany { count });
    }
    let row = |(index, item): (usize, &Value)| match item {
        Value::Object(row) => {
            row.keys().try_for_each(|name| check_name(name))?;
            Ok(row.clone())
        }
        other => {
            let what = format!("entry {} of {what}", index + 1);
            Err(wrong(what, other, "a mapping"))
        }
    };
    items.iter().enumerate().map(row).collect()
}

fn check_name(name: &str) -> Result<(), ExpandError> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let valid = name.starts_with(first) && name.chars().all(inner) && name.len() <= NAME_CHARS_MAX;
    if valid {
        return Ok(());
    }
    Err(ExpandError::Name(name.chars().take(40).collect()))
}

/// Counts jobs and text before anything is copied.
fn check_size(plan: &Plan, job: &Job, instances: &[Instance]) -> Result<(), ExpandError> {
    let count = (plan.jobs.len() + instances.len()).saturating_sub(1);
    if count > JOBS_MAX {
        return Err(ExpandError::TooManyJobs { count });
    }
    let own = json_bytes(job).saturating_mul(instances.len());
    let values: usize = instances.iter().map(json_bytes).sum();
    let others: usize = plan.jobs.iter().map(json_bytes).sum();
    if own.saturating_add(values).saturating_add(others) > PLAN_TEXT_BYTES_MAX {
        return Err(ExpandError::TooLarge);
    }
    Ok(())
}

fn json_bytes<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

/// Instances that nobody could tell apart.
fn check_keys(jobs: &[Job], id: &str) -> Result<(), ExpandError> {
    let mut seen = HashSet::new();
    let own = jobs.iter().filter(|job| job.id == id);
    match own.map(|job| &job.key).find(|key| !seen.insert(*key)) {
        Some(key) => Err(ExpandError::Duplicate(key.clone())),
        None => Ok(()),
    }
}

/// What a value is, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text (`fromJSON(..)` reads it)",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
