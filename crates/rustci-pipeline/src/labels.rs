//! Labels: which runner a job may run on, and why it cannot.

use crate::nearest::nearest;
use crate::plan::RunsOn;

/// Whether a runner with `labels` satisfies `runs_on`. Labels are compared without case.
#[must_use]
pub fn matches(runs_on: &RunsOn, labels: &[String]) -> bool {
    let has = |wanted: &String| {
        labels
            .iter()
            .any(|label| label.eq_ignore_ascii_case(wanted))
    };
    runs_on.all.iter().all(has) && (runs_on.any.is_empty() || runs_on.any.iter().any(has))
}

/// The labels a runner counts with: its own, and `executor=NAME` for each of its executors.
#[must_use]
pub fn of_runner(labels: &[String], executors: &[String]) -> Vec<String> {
    let executors = executors.iter().map(|name| format!("executor={name}"));
    let mut all: Vec<_> = labels.iter().cloned().chain(executors).collect();
    all.sort();
    all.dedup();
    all
}

/// The labels of `runs_on` that a runner with `labels` lacks; the whole of `any` when it has none.
#[must_use]
pub fn missing<'a>(runs_on: &'a RunsOn, labels: &[String]) -> Vec<&'a str> {
    let has = |wanted: &String| {
        labels
            .iter()
            .any(|label| label.eq_ignore_ascii_case(wanted))
    };
    let mut missing: Vec<&str> = runs_on
        .all
        .iter()
        .filter(|label| !has(label))
        .map(String::as_str)
        .collect();
    if !runs_on.any.is_empty() && !runs_on.any.iter().any(has) {
        missing.extend(runs_on.any.iter().map(String::as_str));
    }
    missing
}

/// The label among `known` that `wanted` was probably meant to be.
#[must_use]
pub fn nearest_label<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    nearest(wanted, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn all_labels_and_one_of_any_are_needed() {
        let runs_on = RunsOn {
            all: strings(&["os=linux"]),
            any: strings(&["arch=amd64", "arch=arm64"]),
        };
        assert!(matches(&runs_on, &strings(&["OS=linux", "arch=arm64"])));
        assert!(!matches(&runs_on, &strings(&["os=linux"])));
        assert!(!matches(&runs_on, &strings(&["arch=arm64"])));
        assert!(matches(&RunsOn::default(), &[]));
    }

    #[test]
    fn missing_names_what_a_runner_lacks() {
        let runs_on = RunsOn {
            all: strings(&["gpu", "os=linux"]),
            any: strings(&["a", "b"]),
        };
        assert_eq!(
            missing(&runs_on, &strings(&["os=linux"])),
            ["gpu", "a", "b"]
        );
        assert_eq!(
            missing(&runs_on, &strings(&["os=linux", "b", "gpu"])),
            [""; 0]
        );
    }

    #[test]
    fn a_misspelt_label_has_a_neighbour() {
        assert_eq!(
            nearest_label("os=linx", ["arch=amd64", "os=linux"]),
            Some("os=linux")
        );
        assert_eq!(nearest_label("windows", ["arch=amd64", "os=linux"]), None);
    }
}
