//! What a client that is not free to do anything may do.

use std::sync::Arc;

use resp::Args;

use super::{Command, Done, Flags, KeyArgs, category};
use crate::acl::{Access, Refused, User};
use crate::client::{Client, Standing};
use crate::clock::Moment;
use crate::failure::Failure;
use crate::feed::{Choice, Kind, silence};
use crate::shared::Shared;

/// What a user may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied<'a> {
    Command(String),
    Key(&'a [u8]),
    Channel(&'a [u8]),
}

impl Denied<'_> {
    /// What kind of thing, and which.
    fn parts(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Command(name) => ("command", name.clone().into_bytes()),
            Self::Key(key) => ("key", key.to_vec()),
            Self::Channel(channel) => ("channel", channel.to_vec()),
        }
    }
}

/// Whether a command may be done or kept for later.
#[cold]
pub(super) fn check(
    shared: &Shared,
    client: &Client,
    (number, command): (u16, &Command),
    args: Args<'_>,
) -> Done {
    if client.standing == Standing::Unknown {
        return match command.flags.has(Flags::ANYONE) {
            true => Ok(()),
            false => Err(Failure::NO_AUTH),
        };
    }
    let args: Vec<&[u8]> = args.iter().collect();
    let user = user(shared, client);
    permit(&user, (number, command), &args).map_err(|denied| {
        let context = match &client.transaction {
            Some(_) => "multi",
            None => "toplevel",
        };
        log(shared, client, &user.name, &denied, context);
        Failure::with(match denied {
            Denied::Command(name) => {
                format!("NOPERM this user has no permissions to run the '{name}' command")
            }
            Denied::Key(_) => "NOPERM this user has no permissions to access one of the keys used \
                               as arguments"
                .to_owned(),
            Denied::Channel(_) => "NOPERM this user has no permissions to access one of the \
                                   channels used as arguments"
                .to_owned(),
        })
    })?;
    if client.only_listens() && !command.flags.has(Flags::LISTENS) {
        let name = category::name_of(category::needed(command, number, &args));
        return Err(Failure::with(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context"
        )));
    }
    Ok(())
}

/// The same once more for a command that was kept; its user may have lost rights meanwhile.
#[cold]
pub(super) fn check_again(
    shared: &Shared,
    client: &Client,
    (number, command): (u16, &Command),
    args: Args<'_>,
) -> Done {
    let args: Vec<&[u8]> = args.iter().collect();
    let user = user(shared, client);
    permit(&user, (number, command), &args).map_err(|denied| {
        log(shared, client, &user.name, &denied, "multi");
        let reason = match denied {
            Denied::Command(_) => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => {
                "no permission to access one of the channels used as arguments to the command"
            }
        };
        Failure::with(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the \
             EXEC call. This command is no longer allowed for the following reason: {reason}"
        ))
    })
}

/// Whether a user may do a command that comes in another form; a line about its client says who was
/// refused. Fails with words for the client.
#[cfg(feature = "valkyrie")]
#[cold]
pub(crate) fn may(
    shared: &Shared,
    user: &User,
    args: &[&[u8]],
    client: impl FnOnce() -> String,
) -> Result<(), String> {
    let Some(known) = args.first().and_then(|name| shared.lookup.find(name)) else {
        return Err("there is no such command".to_owned());
    };
    let Err(denied) = permit(user, known, args) else {
        return Ok(());
    };
    let (reason, object) = denied.parts();
    let what = match reason {
        "command" => format!("call {}", String::from_utf8_lossy(&object)),
        _ => format!("use the {reason}"),
    };
    shared.acl.log.add(Refused {
        reason,
        context: "toplevel",
        object,
        user: user.name.clone(),
        client: client(),
        at: shared.clock.now(),
        count: 1,
    });
    Err(format!("user {} may not {what}", user.name))
}

fn user(shared: &Shared, client: &Client) -> Arc<User> {
    let user = client.user.clone();
    user.unwrap_or_else(|| shared.acl.default_user())
}

fn log(shared: &Shared, client: &Client, user: &str, denied: &Denied<'_>, context: &'static str) {
    let (reason, object) = denied.parts();
    refused(shared, client, (reason, context), (object, user));
}

/// Remembers that something was refused.
pub(super) fn refused(
    shared: &Shared,
    client: &Client,
    (reason, context): (&'static str, &'static str),
    (object, user): (Vec<u8>, &str),
) {
    let at: Moment = shared.clock.now();
    let count = |kind| client.feed.as_ref().map_or(0, |feed| feed.count(kind));
    let queued = client
        .transaction
        .as_ref()
        .map(|it| it.commands.len() as i64);
    // Clients of Redis look for all of these; what is not measured is 0.
    let line = format!(
        "{} sub={} psub={} ssub={} multi={} qbuf=0 qbuf-free=0 argv-mem=0 obl=0 oll=0 omem=0 \
         tot-mem=0 events=r redir=-1",
        client.info.line(at),
        count(Kind::Channel),
        count(Kind::Pattern),
        count(Kind::Shard),
        queued.unwrap_or(-1),
    );
    shared.acl.log.add(Refused {
        reason,
        context,
        object,
        user: user.to_owned(),
        client: line,
        at,
        count: 1,
    });
}

/// Whether a user may do a command with these arguments.
pub(super) fn permit<'a>(
    user: &User,
    (number, command): (u16, &Command),
    args: &[&'a [u8]],
) -> Result<(), Denied<'a>> {
    let needed = category::needed(command, number, args);
    if !command.flags.has(Flags::ANYONE) && !user.allows(needed) {
        return Err(Denied::Command(category::name_of(needed)));
    }
    if !user.all_keys {
        for (index, key) in keys(command, args).into_iter().enumerate() {
            if !user.allows_key(key, access(command, index, args)) {
                return Err(Denied::Key(key));
            }
        }
        for prefix in prefixes(command, args) {
            if !user.allows_prefix(prefix) {
                return Err(Denied::Key(prefix));
            }
        }
    }
    if user.all_channels {
        return Ok(());
    }
    let names = match command.name {
        "PSUBSCRIBE" | "SUBSCRIBE" | "SSUBSCRIBE" => args.get(1..),
        "PUBLISH" | "SPUBLISH" => args.get(1..2),
        _ => None,
    };
    let is_allowed = |name: &[u8]| match command.name {
        "PSUBSCRIBE" => user.allows_pattern(name),
        _ => user.allows_channel(name),
    };
    let mut names = names.unwrap_or_default().iter();
    match names.find(|name| !is_allowed(name)) {
        Some(name) => Err(Denied::Channel(name)),
        None => Ok(()),
    }
}

/// The keys among the arguments, also behind a word that says what to do.
fn keys<'a>(command: &Command, args: &[&'a [u8]]) -> Vec<&'a [u8]> {
    match (command.name, command.keys) {
        ("OBJECT" | "MEMORY", KeyArgs::None) => args.get(2).copied().into_iter().collect(),
        // `keys_of` borrows from the list.
        _ => {
            let (first, _, step) = command.key_range();
            let count = command.keys_of(args).count();
            let places = (0..count).map(|place| first + place * step);
            places
                .filter_map(|place| args.get(place).copied())
                .collect()
        }
    }
}

/// Beginnings of keys of which a client would learn that they change.
fn prefixes<'a>(command: &Command, args: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let is = |index: usize, word: &[u8]| {
        let arg = args.get(index);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word))
    };
    match command.name {
        "YGG.WATCH" => args.iter().skip(1).copied().collect(),
        "CLIENT" if is(1, b"TRACKING") && (3..args.len()).any(|it| is(it, b"BCAST")) => {
            let behind = (3..args.len()).filter(|index| is(*index, b"PREFIX"));
            let named: Vec<&[u8]> = behind.filter_map(|it| args.get(it + 1).copied()).collect();
            if named.is_empty() { vec![b""] } else { named }
        }
        _ => Vec::new(),
    }
}

/// What a command does to its key with this number among its keys, as Redis sees it.
fn access(command: &Command, index: usize, args: &[&[u8]]) -> Access {
    let has = |word: &[u8]| {
        args.iter()
            .skip(3)
            .any(|arg| arg.eq_ignore_ascii_case(word))
    };
    match command.name {
        "EXISTS" | "MEMORY" | "OBJECT" | "STRLEN" | "TOUCH" | "TYPE" | "WATCH" => Access::NONE,
        "SET" if has(b"GET") || has(b"IFEQ") => Access::BOTH,
        "APPEND" | "DEL" | "EXPIRE" | "EXPIREAT" | "MSET" | "MSETNX" | "PERSIST" | "PEXPIRE"
        | "PEXPIREAT" | "PSETEX" | "SET" | "SETEX" | "SETNX" | "SETRANGE" | "UNLINK" => {
            Access::WRITE
        }
        "COPY" if index == 0 => Access::READ,
        "COPY" => Access::WRITE,
        "RENAME" | "RENAMENX" if index == 1 => Access::WRITE,
        _ if command.flags.has(Flags::READ) => Access::READ,
        _ => Access::BOTH,
    }
}

/// Has what follows from a command told to the right clients.
#[cold]
pub(super) fn before(shared: &Shared, client: &Client, command: &Command, args: Args<'_>) {
    let feed = client.feed.as_ref();
    let Some(caching) = feed.and_then(|feed| feed.caching.as_ref()) else {
        return;
    };
    let keeps = match (caching.choice, caching.next) {
        (Choice::All, _) | (Choice::OptIn, Some(true)) | (Choice::OptOut, None | Some(true)) => {
            true
        }
        (Choice::OptIn, _) | (Choice::OptOut, Some(false)) => false,
    };
    if keeps && caching.broadcast.is_none() && command.flags.has(Flags::READ) {
        // Before it reads, so that no change falls between.
        let args: Vec<&[u8]> = args.iter().collect();
        for key in command.keys_of(&args) {
            shared.changes.will_read(key, client.place, client.info.id);
        }
    }
    if caching.no_loop {
        silence(client.info.id);
    }
}

/// Ends what was valid for one command.
#[cold]
pub(super) fn after(client: &mut Client, command: &Command) {
    silence(0);
    let feed = client.feed.as_mut();
    // What is said before a transaction is said of all of its commands.
    if let Some(caching) = feed.and_then(|feed| feed.caching.as_mut())
        && client.transaction.is_none()
        && command.name != "CLIENT"
    {
        caching.next = None;
    }
}
