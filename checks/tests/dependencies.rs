//! The table of crates in ARCHITECTURE.md is what `cargo metadata` says, and it points down.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

#[derive(Debug)]
struct Row {
    level: u32,
    position: usize,
    depends_on: BTreeSet<String>,
}

fn table() -> BTreeMap<String, Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.enumerate()
        .map(|(position, line)| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let names = |cell: &str| -> BTreeSet<String> {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect()
            };
            let name = names(cells[0]).pop_first().unwrap();
            let level = cells[1].parse().unwrap();
            (
                name,
                Row {
                    level,
                    position,
                    depends_on: names(cells[2]),
                },
            )
        })
        .collect()
}

/// Dependencies of every crate under `crates/` on other members, without those of tests.
fn actual() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .unwrap();
    let product: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| {
            package
                .manifest_path
                .components()
                .any(|part| part.as_str() == "crates")
        })
        .collect();
    let names: BTreeSet<String> = product
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    product
        .iter()
        .map(|package| {
            let depends_on = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .filter(|name| names.contains(name))
                .collect();
            (package.name.to_string(), depends_on)
        })
        .collect()
}

#[test]
fn table_matches_cargo_metadata() {
    let table: BTreeMap<_, _> = table()
        .into_iter()
        .map(|(name, row)| (name, row.depends_on))
        .collect();
    assert_eq!(
        table,
        actual(),
        "left: ARCHITECTURE.md, right: cargo metadata"
    );
}

#[test]
fn dependencies_point_down() {
    let table = table();
    for (name, row) in &table {
        for other in &row.depends_on {
            let below = &table[other];
            let down = below.level < row.level
                || (below.level == row.level && below.position < row.position);
            assert!(
                down,
                "{name} (level {}) depends on {other} (level {})",
                row.level, below.level
            );
        }
    }
}
