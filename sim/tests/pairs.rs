//! Pairs of sessions: the seeds that every change has to pass, and faults that must not pass.

use rustci_sim::{PairOptions, Plant, run_pairs};

/// A short form; `rustci-sim pairs --steps 1000000` is the long one.
const SEEDS: u64 = 12;

#[test]
fn pairs_of_sessions_keep_every_invariant() {
    let (mut steps, mut failures) = (0, Vec::new());
    for seed in 0..SEEDS {
        match run_pairs(&PairOptions::from_seed(seed)) {
            Ok(summary) => steps += summary.steps,
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(steps > 50_000, "hardly anything happened: {steps} steps");
}

#[test]
fn seed_is_one_exact_history_of_a_pair() {
    let options = PairOptions::from_seed(7);
    assert_eq!(run_pairs(&options), run_pairs(&options));
}

/// Whether one of a few seeds breaks an invariant, when this is broken on purpose.
fn notices(plant: Plant, among: &[&str]) -> bool {
    (0..6)
        .filter_map(|seed| run_pairs(&PairOptions::from_seed(seed).planting(plant)).err())
        .any(|failure| among.is_empty() || among.contains(&failure.invariant))
}

#[test]
fn what_is_broken_on_purpose_is_noticed() {
    for (plant, among) in [
        (Plant::DeliverTwice, ["once"].as_slice()),
        (Plant::Reorder, &["once"]),
        (Plant::Overspend, &["credit"]),
        (Plant::LoseCredit, &[]),
        (Plant::LoseConnectionCredit, &[]),
        (Plant::Drop, &[]),
        (Plant::LoseEnd, &[]),
    ] {
        assert!(notices(plant, among), "{plant:?} is not noticed");
    }
}
