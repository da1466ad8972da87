//! No dependency is older than the release that fixed its last known weakness.

#![cfg(test)]

/// Crate, lowest accepted version of its series, and the advisory or fault behind it.
///
/// A crate that is not in the lock file passes: the floor waits for the day it is added.
const FLOORS: &[(&str, (u64, u64, u64), &str)] = &[
    ("rustls", (0, 23, 45), "RUSTSEC-2026-0285"),
    (
        "rustls-webpki",
        (0, 103, 13),
        "RUSTSEC-2026-0049, -0098, -0099, -0104",
    ),
    ("aws-lc-rs", (1, 18, 0), "1.17.2 is yanked"),
    ("quinn-proto", (0, 11, 15), "RUSTSEC-2026-0037, -0185"),
    (
        "h2",
        (0, 4, 17),
        "RUSTSEC-2026-0258 and the guard that broke honest use",
    ),
    ("yamux", (0, 13, 10), "CVE-2026-32314, CVE-2026-31814"),
    ("jsonwebtoken", (10, 3, 0), "CVE-2026-25537"),
    ("hpke-rs", (0, 7, 0), "RUSTSEC-2026-0212"),
    ("wasmtime", (47, 0, 4), "RUSTSEC-2026-0269"),
    // Carries SQLite; 3.51.3 fixed lost commits after a WAL reset.
    (
        "libsqlite3-sys",
        (0, 37, 0),
        "SQLite WAL reset, fixed in 3.51.3",
    ),
];

fn locked() -> Vec<(String, (u64, u64, u64))> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = std::fs::read_to_string(path).unwrap();
    let field = |block: &str, key: &str| {
        let line = block.lines().find(|line| line.starts_with(key));
        line.map(|line| line.split('"').nth(1).unwrap().to_owned())
    };
    text.split("[[package]]")
        .filter_map(|block| Some((field(block, "name = ")?, field(block, "version = ")?)))
        .map(|(name, version)| {
            let plain = version.split(['-', '+']).next().unwrap();
            let mut parts = plain.split('.').map(|part| part.parse().unwrap());
            let mut next = || parts.next().unwrap();
            (name, (next(), next(), next()))
        })
        .collect()
}

#[test]
fn no_locked_version_is_below_its_floor() {
    for (name, version) in locked() {
        for (floored, floor, reason) in FLOORS {
            assert!(
                name != *floored || version >= *floor,
                "{name} {version:?} is below {floor:?} ({reason}); run cargo update -p {name}"
            );
        }
    }
}

#[test]
fn banned_crates_are_absent() {
    let banned = ["ring", "openssl-sys", "native-tls", "serde_yaml", "bincode"];
    for (name, _) in locked() {
        assert!(
            !banned.contains(&name.as_str()),
            "{name} is banned; deny.toml says why"
        );
    }
}
