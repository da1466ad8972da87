//! `matrix`: axes, what is left out, what is added.

use std::rc::Rc;

use serde_json::Value;

use super::draft::{DynamicDraft, FailFast, Matrix, MatrixDraft};
use super::dynamic;
use super::fields::{Fields, entries};
use super::keys;
use super::values::{self, NameRule};
use crate::diagnostic::Code;
use crate::limits::{COMBINATIONS_MAX, JOBS_MAX, MATRIX_MAX, PLAN_TEXT_BYTES_MAX};
use crate::matrix::{self, Axis, Instance};
use crate::nearest::nearest;
use crate::report::Report;
use crate::template::is_template;
use crate::yaml::{Entry, Node, NodeKind};

/// Reads and expands a matrix. The order is that of the axes, the last one turning fastest.
pub(super) fn matrix(report: &mut Report<'_>, node: &Rc<Node>) -> Matrix {
    read(report, node).unwrap_or(Matrix::Unknown)
}

/// Reads and expands a matrix that is nothing but its axes.
pub(super) fn of_axes(report: &mut Report<'_>, node: &Rc<Node>) -> Matrix {
    let draft = axes(report, node).and_then(|axes| {
        let instances = product(report, node, &axes)?;
        check_count(report, node, &instances)?;
        Some(MatrixDraft {
            names: matrix::names(&axes, &[]),
            instances,
            fail_fast: FailFast::Yes,
            max_parallel: None,
        })
    });
    draft.map_or(Matrix::Unknown, Matrix::Known)
}

/// The matrix; none when it has a mistake that leaves its instances open.
fn read(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Matrix> {
    if node.text().is_some_and(is_template) {
        return dynamic::whole(report, node).map(Matrix::Dynamic);
    }
    let fields = Fields::read(report, node, &keys::MATRIX)?;
    let fail_fast = fields
        .get("fail-fast")
        .and_then(|node| values::boolean(report, node, "fail-fast"));
    let fail_fast = if fail_fast == Some(false) {
        FailFast::No
    } else {
        FailFast::Yes
    };
    let range = 1..=i64::try_from(JOBS_MAX).unwrap_or(i64::MAX);
    let max_parallel = fields
        .get("max-parallel")
        .and_then(|node| values::integer(report, node, "max-parallel", range));
    let max_parallel = max_parallel.and_then(|number| u32::try_from(number).ok());
    let from_expressions = ["axes", "include", "exclude"]
        .iter()
        .filter_map(|name| fields.get(name))
        .any(|node| dynamic::has_expression(node));
    if from_expressions {
        let draft = dynamic::parts(report, node, &fields)?;
        return Some(Matrix::Dynamic(DynamicDraft {
            fail_fast,
            max_parallel,
            ..draft
        }));
    }
    let (names, instances) = instances(report, node, &fields)?;
    Some(Matrix::Known(MatrixDraft {
        names,
        instances,
        fail_fast,
        max_parallel,
    }))
}

/// Names and instances of a matrix that is all in the file.
fn instances(
    report: &mut Report<'_>,
    node: &Rc<Node>,
    fields: &Fields<'_>,
) -> Option<(Vec<String>, Vec<Instance>)> {
    let axes = fields
        .get("axes")
        .map_or(Some(Vec::new()), |node| axes(report, node));
    let axes = axes?;
    let combinations = product(report, node, &axes)?;
    let excluded = maps(report, fields.get("exclude"), "exclude");
    let kept = exclude(report, combinations, &axes, &excluded);
    let included = maps(report, fields.get("include"), "include");
    let included: Vec<Instance> = included.into_iter().map(|row| row.values).collect();
    check_bytes(report, node, matrix::include_bytes(&kept, &included))?;
    let names = matrix::names(&axes, &included);
    let instances = matrix::include(kept, &axes, included);
    check_count(report, node, &instances)?;
    Some((names, instances))
}

/// The axes; none when one of them has a mistake.
fn axes(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Vec<Axis>> {
    let entries = entries(report, node, "`axes`")?;
    let axes: Vec<Option<Axis>> = entries.iter().map(|entry| axis(report, entry)).collect();
    axes.into_iter().collect()
}

/// One axis; none when it has a mistake.
fn axis(report: &mut Report<'_>, entry: &Entry) -> Option<Axis> {
    let name = values::name(report, &entry.key, "axis name", NameRule::Id);
    let NodeKind::Sequence(items) = &entry.value.kind else {
        let message = format!("an axis has to be a list, not {}", entry.value.kind_name());
        report.error(Code::TYPE, entry.value.at.clone(), message);
        return None;
    };
    if items.is_empty() {
        let message = "an axis without a value leaves no instance";
        report.error(Code::MATRIX, entry.key.at.clone(), message);
        return None;
    }
    Some(Axis {
        name: name?,
        values: items.iter().map(|item| item.to_json()).collect(),
    })
}

/// All combinations of the axes; none when there are too many to look at.
fn product(report: &mut Report<'_>, node: &Node, axes: &[Axis]) -> Option<Vec<Instance>> {
    let count = matrix::combinations(axes);
    if count > COMBINATIONS_MAX {
        let message = format!(
            "the axes have {count} combinations; at most {COMBINATIONS_MAX} are \
                               looked at, and {MATRIX_MAX} may be left"
        );
        report.error(Code::TOO_MANY, node.at.clone(), message);
        return None;
    }
    check_bytes(report, node, matrix::product_bytes(axes))?;
    Some(matrix::product(axes))
}

/// Reports values that would take too much room in all instances; none then.
fn check_bytes(report: &mut Report<'_>, node: &Node, bytes: usize) -> Option<()> {
    if bytes <= PLAN_TEXT_BYTES_MAX {
        return Some(());
    }
    let message = format!(
        "the values of this matrix have more than {PLAN_TEXT_BYTES_MAX} bytes in all instances"
    );
    report.error(Code::TOO_MANY, node.at.clone(), message);
    None
}

/// An entry of `include` or `exclude`.
struct Row {
    node: Rc<Node>,
    values: Instance,
}

/// The entries of `include` or `exclude`, those with a mistake left out.
fn maps(report: &mut Report<'_>, node: Option<&Rc<Node>>, what: &str) -> Vec<Row> {
    let Some(node) = node else {
        return Vec::new();
    };
    let NodeKind::Sequence(items) = &node.kind else {
        let message = format!("`{what}` has to be a list, not {}", node.kind_name());
        report.error(Code::TYPE, node.at.clone(), message);
        return Vec::new();
    };
    if items.len() > MATRIX_MAX {
        let message = format!("`{what}` has more than {MATRIX_MAX} entries");
        report.error(Code::TOO_MANY, node.at.clone(), message);
        return Vec::new();
    }
    items
        .iter()
        .filter_map(|item| row(report, item, what))
        .collect()
}

/// One entry of `include` or `exclude`.
fn row(report: &mut Report<'_>, item: &Rc<Node>, what: &str) -> Option<Row> {
    let listed = entries(report, item, &format!("an entry of `{what}`"))?;
    for entry in listed {
        values::name(report, &entry.key, "matrix name", NameRule::Id)?;
    }
    let Value::Object(values) = item.to_json() else {
        return None;
    };
    if values.is_empty() {
        report.error(
            Code::EMPTY,
            item.at.clone(),
            format!("an entry of `{what}` is empty"),
        );
        return None;
    }
    Some(Row {
        node: Rc::clone(item),
        values,
    })
}

/// Leaves out every combination that has all the values of an entry.
fn exclude(
    report: &mut Report<'_>,
    mut instances: Vec<Instance>,
    axes: &[Axis],
    rows: &[Row],
) -> Vec<Instance> {
    for row in rows {
        if report.is_full() {
            break;
        }
        let unknown = row
            .values
            .keys()
            .find(|name| axes.iter().all(|axis| axis.name != **name));
        if let Some(name) = unknown {
            report
                .error(
                    Code::MATRIX,
                    row.node.at.clone(),
                    format!("`{name}` is not an axis"),
                )
                .nearest(nearest(name, axes.iter().map(|axis| axis.name.as_str())))
                .help("`exclude` can only name axes");
            continue;
        }
        let before = instances.len();
        matrix::exclude(&mut instances, &row.values);
        if instances.len() == before {
            report
                .warning(
                    Code::MATRIX,
                    row.node.at.clone(),
                    "this entry of `exclude` fits nothing",
                )
                .help("values have to be the same, with their type: 1 is not \"1\"");
        }
    }
    instances
}

/// Reports a matrix with no instance or too many; none then.
fn check_count(report: &mut Report<'_>, node: &Node, instances: &[Instance]) -> Option<()> {
    if instances.is_empty() {
        report
            .error(
                Code::MATRIX,
                node.at.clone(),
                "the matrix has no instance left",
            )
            .help("give it `axes`, or entries in `include`");
        return None;
    }
    if instances.len() > MATRIX_MAX {
        let count = instances.len();
        let message = format!("the matrix has {count} instances, at most {MATRIX_MAX} are allowed");
        report.error(Code::TOO_MANY, node.at.clone(), message);
        return None;
    }
    Some(())
}
