//! Bad input, case by case: what a peer sends, in which state, which rule of `spec/protocol.md` that
//! breaks, and how little ends of it.
//!
//! [`run`](victim::run) is the one function behind all cases. It checks the rule and the code that
//! the peer is told and that are counted, that nothing ends but what has to, that a stream and two
//! calls beside it go on, and that memory is taken for bytes that came, never for bytes that were
//! claimed.

#![allow(unreachable_pub, reason = "the modules of one test binary")]
#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]
#![allow(
    clippy::indexing_slicing,
    reason = "the cases index what they made themselves"
)]
#![allow(
    clippy::print_stdout,
    reason = "the numbers of cases are shown on request"
)]

mod case;
mod classes;
mod victim;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use valkyrie_session::Rule;

use case::Case;
use classes::CLASSES;

/// Cases that break a rule; less would be a class that lost some of its own.
const BREAKING_MIN: usize = 600;

/// The rules of bytes that are no frame, which `Rule::ALL` leaves to `FrameError`.
const FRAME_RULES: [&str; 7] = [
    "R-3.1", "R-3.2", "R-3.3", "R-5.1", "R-5.2", "R-5.3", "R-5.4",
];

/// Memory is counted for the whole process, so one class is looked at at a time.
static TURN: Mutex<()> = Mutex::new(());

fn all() -> impl Iterator<Item = Case> {
    CLASSES.iter().flat_map(|(_, cases)| cases())
}

/// Runs all cases of a class.
fn check(class: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, cases) = CLASSES.iter().find(|(name, _)| *name == class).unwrap();
    let wrong: Vec<_> = cases()
        .iter()
        .filter_map(|case| Some((&case.name, case.rule, victim::run(case).err()?)))
        .map(|(name, rule, problem)| format!("{name} ({rule}): {problem}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_is_what_a_case_breaks() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let broken: BTreeSet<_> = all().filter(Case::breaks).map(|case| case.rule).collect();
    let rules = Rule::ALL
        .iter()
        .map(|rule| rule.as_str())
        .chain(FRAME_RULES);
    let missing: Vec<_> = rules.filter(|rule| !broken.contains(rule)).collect();
    assert!(missing.is_empty(), "no case breaks {missing:?}");
}

#[test]
fn every_case_names_a_rule_of_the_specification_and_has_a_name_of_its_own() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = include_str!("../../../../spec/protocol.md");
    let mut names = BTreeSet::new();
    for case in all() {
        assert!(names.insert(case.name.clone()), "{} twice", case.name);
        let line = format!("- **{}** ", case.rule);
        let found = text.lines().any(|text| text.starts_with(&line));
        assert!(found, "{}: there is no rule {:?}", case.name, case.rule);
    }
}

/// `cargo test --test bad_input numbers -- --nocapture` shows them.
#[test]
fn the_numbers_of_cases() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut breaking, mut harmless) = (0, 0);
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    println!("{:<14} {:>8} {:>9}", "class", "breaking", "harmless");
    for (class, cases) in CLASSES {
        let cases = cases();
        let count = cases.iter().filter(|case| case.breaks()).count();
        println!("{class:<14} {count:>8} {:>9}", cases.len() - count);
        breaking += count;
        harmless += cases.len() - count;
        for case in cases.iter().filter(|case| case.breaks()) {
            *rules.entry(case.rule).or_default() += 1;
        }
    }
    println!(
        "{:<14} {breaking:>8} {harmless:>9}, {} rules broken",
        "all",
        rules.len()
    );
    assert!(
        breaking >= BREAKING_MIN,
        "only {breaking} cases break a rule"
    );
}
