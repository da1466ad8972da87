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

/// Banned crate, and the crates that may depend on it all the same; deny.toml says why.
const BANNED: &[(&str, &[&str])] = &[
    ("ring", &["rustls-webpki"]),
    ("openssl-sys", &[]),
    ("native-tls", &[]),
    ("serde_yaml", &["zenoh-config"]),
    ("bincode", &["tokio-serde"]),
];

struct Locked {
    name: String,
    version: (u64, u64, u64),
    depends_on: Vec<String>,
}

fn locked() -> Vec<Locked> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let text = std::fs::read_to_string(path).unwrap();
    let field = |block: &str, key: &str| {
        let line = block.lines().find(|line| line.starts_with(key));
        line.map(|line| line.split('"').nth(1).unwrap().to_owned())
    };
    text.split("[[package]]")
        .filter_map(|block| {
            let name = field(block, "name = ")?;
            let version = field(block, "version = ")?;
            let plain = version.split(['-', '+']).next().unwrap();
            let mut parts = plain.split('.').map(|part| part.parse().unwrap());
            let mut next = || parts.next().unwrap();
            // One line each: its name, and its version where there are several of that name.
            let depends_on = block.lines().filter_map(|line| line.strip_prefix(" \""));
            let depends_on =
                depends_on.map(|line| line.split([' ', '"']).next().unwrap().to_owned());
            Some(Locked {
                name,
                version: (next(), next(), next()),
                depends_on: depends_on.collect(),
            })
        })
        .collect()
}

#[test]
fn no_locked_version_is_below_its_floor() {
    for Locked { name, version, .. } in locked() {
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
    for Locked {
        name, depends_on, ..
    } in locked()
    {
        for (banned, but_of) in BANNED {
            assert!(
                !depends_on.iter().any(|other| other == banned) || but_of.contains(&name.as_str()),
                "{name} depends on {banned}, which is banned; deny.toml says why"
            );
        }
    }
}
