//! The seeds that every change has to pass.

use std::thread;

use rustci_sim::{Gates, Options, run};

const SEEDS: u64 = 500;

#[test]
fn five_hundred_seeds_keep_every_invariant() {
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let results: Vec<_> = thread::scope(|scope| {
        let play = |first: u64| {
            let seeds = (first..SEEDS).step_by(threads as usize);
            seeds
                .map(|seed| run(Options::from_seed(seed)))
                .collect::<Vec<_>>()
        };
        let players: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || play(first)))
            .collect();
        players
            .into_iter()
            .flat_map(|player| player.join().unwrap())
            .collect()
    });
    let gates = results.iter().flatten().map(|summary| summary.gates);
    let count = |of: fn(Gates) -> usize| gates.clone().map(of).sum::<usize>();
    for passed in [
        count(|gates| gates.slots),
        count(|gates| gates.answers),
        count(|gates| gates.matrices),
        count(|gates| gates.carried),
    ] {
        assert!(passed > 100, "hardly anything passed a gate: {passed}");
    }
    let failures: Vec<_> = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .collect();
    let report: Vec<_> = failures.iter().map(|failure| failure.to_string()).collect();
    assert!(
        failures.is_empty(),
        "{} of {SEEDS} failed\n{}",
        failures.len(),
        report.join("\n\n")
    );
}

#[test]
fn seed_is_one_exact_history() {
    for seed in [1, 7, 42] {
        assert_eq!(run(Options::from_seed(seed)), run(Options::from_seed(seed)));
    }
}
