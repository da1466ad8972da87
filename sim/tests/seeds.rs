//! The seeds that every change has to pass.

use std::thread;

use rustci_sim::{Options, run};

const SEEDS: u64 = 500;

#[test]
fn five_hundred_seeds_keep_every_invariant() {
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let failures: Vec<_> = thread::scope(|scope| {
        let play = |first: u64| {
            let seeds = (first..SEEDS).step_by(threads as usize);
            seeds
                .filter_map(|seed| run(Options::from_seed(seed)).err())
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
