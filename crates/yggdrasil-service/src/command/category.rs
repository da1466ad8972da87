//! What users may be allowed to do: commands, parts of them, and categories of them.

use super::table::COMMANDS;
use super::{Command, Flags, Group, Lookup};

/// Names of categories, each at the place of its bit. Those of Redis, some of which have no command
/// here, and `limits`.
pub(crate) const CATEGORIES: [&str; 22] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
    "limits",
];

const KEYSPACE: u32 = 1;
const READ: u32 = 1 << 1;
const WRITE: u32 = 1 << 2;
const STRING: u32 = 1 << 7;
const PUBSUB: u32 = 1 << 12;
const ADMIN: u32 = 1 << 13 | DANGEROUS;
const FAST: u32 = 1 << 14;
const SLOW: u32 = 1 << 15;
const DANGEROUS: u32 = 1 << 17;
const CONNECTION: u32 = 1 << 18;
const TRANSACTION: u32 = 1 << 19;
const SCRIPTING: u32 = 1 << 20;
const LIMITS: u32 = 1 << 21;

/// A command with a first argument that says what it does.
struct Part {
    command: &'static str,
    name: &'static str,
    categories: u32,
}

/// Commands of which users may be allowed parts.
static PARTS: &[(&str, u32, &[&str])] = &[
    ("ACL", 0, &["CAT", "GENPASS", "HELP", "WHOAMI"]),
    (
        "ACL",
        ADMIN,
        &[
            "DELUSER", "DRYRUN", "GETUSER", "LIST", "LOAD", "LOG", "SAVE", "SETUSER", "USERS",
        ],
    ),
    (
        "CLIENT",
        CONNECTION,
        &[
            "CACHING",
            "GETNAME",
            "GETREDIR",
            "HELP",
            "ID",
            "INFO",
            "NO-TOUCH",
            "REPLY",
            "SETINFO",
            "SETNAME",
            "TRACKING",
            "TRACKINGINFO",
        ],
    ),
    ("CLIENT", CONNECTION | ADMIN, &["KILL", "LIST", "NO-EVICT"]),
    (
        "COMMAND",
        CONNECTION,
        &["COUNT", "DOCS", "GETKEYS", "HELP", "INFO", "LIST"],
    ),
    ("CONFIG", 0, &["HELP"]),
    ("CONFIG", ADMIN, &["GET", "RESETSTAT", "SET"]),
    ("FUNCTION", WRITE | SCRIPTING, &["FLUSH"]),
    ("MEMORY", READ, &["USAGE"]),
    ("OBJECT", KEYSPACE | READ, &["ENCODING"]),
    ("PUBSUB", 0, &["HELP"]),
    (
        "PUBSUB",
        PUBSUB,
        &[
            "CHANNELS",
            "NUMPAT",
            "NUMSUB",
            "SHARDCHANNELS",
            "SHARDNUMSUB",
        ],
    ),
    ("SLOWLOG", ADMIN, &["GET", "LEN", "RESET"]),
];

fn parts() -> impl Iterator<Item = Part> {
    PARTS.iter().flat_map(|(command, categories, names)| {
        names.iter().map(move |name| Part {
            command,
            name,
            categories: categories | SLOW,
        })
    })
}

/// What somebody may be allowed to do: the number of a command, or one behind all of those for a part.
pub(crate) fn permissions() -> usize {
    COMMANDS.len() + parts().count()
}

/// What is needed for a command with these arguments.
pub(super) fn needed(command: &Command, number: u16, args: &[&[u8]]) -> usize {
    let part = args.get(1).and_then(|word| {
        parts().position(|part| {
            part.command == command.name && word.eq_ignore_ascii_case(part.name.as_bytes())
        })
    });
    part.map_or(usize::from(number), |part| COMMANDS.len() + part)
}

/// A name as lists of permissions have it, such as `get` or `config|get`.
pub(crate) fn name_of(permission: usize) -> String {
    let name = match COMMANDS.get(permission) {
        Some(command) => command.name.to_owned(),
        None => parts()
            .nth(permission - COMMANDS.len())
            .map_or(String::new(), |part| {
                format!("{}|{}", part.command, part.name)
            }),
    };
    name.to_ascii_lowercase()
}

/// What a name in a list of permissions means: a command with all of its parts, or a part.
pub(crate) fn named(lookup: &Lookup, name: &str) -> Option<Vec<usize>> {
    let (command, part) = match name.split_once('|') {
        Some((command, part)) => (command, Some(part)),
        None => (name, None),
    };
    let (number, command) = lookup.find(command.as_bytes())?;
    let of_command = parts()
        .enumerate()
        .filter(|(_, it)| it.command == command.name);
    match part {
        None => {
            let parts = of_command.map(|(number, _)| COMMANDS.len() + number);
            Some(std::iter::once(usize::from(number)).chain(parts).collect())
        }
        Some(part) => {
            let mut found = of_command.filter(|(_, it)| part.eq_ignore_ascii_case(it.name));
            found
                .next()
                .map(|(number, _)| vec![COMMANDS.len() + number])
        }
    }
}

/// What a category means.
pub(crate) fn in_category(name: &str) -> Option<Vec<usize>> {
    let mut names = CATEGORIES.iter();
    let bit = names.position(|category| name.eq_ignore_ascii_case(category))?;
    let all = COMMANDS
        .iter()
        .map(of)
        .chain(parts().map(|part| part.categories));
    let found = all
        .enumerate()
        .filter(|(_, categories)| categories >> bit & 1 != 0);
    Some(found.map(|(permission, _)| permission).collect())
}

/// The categories of a command itself.
pub(super) fn names_of(command: &Command) -> impl Iterator<Item = &'static str> {
    let categories = of(command);
    let names = CATEGORIES.iter().enumerate();
    names.filter_map(move |(bit, name)| (categories >> bit & 1 != 0).then_some(*name))
}

fn of(command: &Command) -> u32 {
    if parts().any(|part| part.command == command.name) && command.name != "COMMAND" {
        return SLOW;
    }
    let group = match command.group {
        Group::Connection => CONNECTION,
        Group::Key => KEYSPACE,
        Group::Limit => LIMITS,
        Group::PubSub => PUBSUB,
        Group::Server => 0,
        Group::String => STRING,
        Group::Transaction => TRANSACTION,
    };
    let more = match command.name {
        "BGSAVE" | "LASTSAVE" | "YGG.BAN" | "YGG.BANS" | "YGG.CLUSTER" | "YGG.NODE"
        | "YGG.UNBAN" => ADMIN,
        "COMMAND" => CONNECTION,
        "DBSIZE" => KEYSPACE,
        "FLUSHALL" | "FLUSHDB" => KEYSPACE | DANGEROUS,
        "INFO" | "KEYS" => DANGEROUS,
        _ => 0,
    };
    let has = |flag, category| if command.flags.has(flag) { category } else { 0 };
    group | more | has(Flags::READ, READ) | has(Flags::WRITE, WRITE) | speed(command)
}

/// What Redis takes for fast, which is a convention of its categories.
fn speed(command: &Command) -> u32 {
    match command.name {
        "APPEND" | "DBSIZE" | "EXISTS" | "MGET" | "RENAMENX" | "TOUCH" | "UNLINK" => FAST,
        "PSETEX" | "SET" | "SETEX" => SLOW,
        _ if command.flags.has(Flags::FAST) => FAST,
        _ => SLOW,
    }
}
