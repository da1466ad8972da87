//! Commands: what there is, who may do what, and the way of one.

mod acl;
mod category;
mod cluster;
mod connection;
mod counter;
mod expiry;
mod gate;
mod info;
mod introspection;
mod key;
mod limit;
mod lookup;
mod policy;
mod pubsub;
mod source;
mod string;
mod table;
mod tracking;
mod transaction;

use std::sync::Arc;

use resp::{Args, Writer, parse_integer};
use yggdrasil::{Held, Key, KeyError, Keyspace, Policy, Shard, ShardGuard, Step, Transacted};

use crate::client::{Client, Standing};
use crate::clock::Moment;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::shared::Shared;

pub(crate) use category::{in_category, named, permissions};
pub(crate) use cluster::purge;
#[cfg(feature = "valkyrie")]
pub(crate) use gate::may;
pub(crate) use lookup::Lookup;
use table::COMMANDS;

/// What came of a command: it wrote its answer, or there is an error to write.
pub(crate) type Done = Result<(), Failure>;

/// A command that clients may give.
#[derive(Debug)]
pub(crate) struct Command {
    /// In capitals.
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative for at least so many.
    arity: i32,
    keys: KeyArgs,
    flags: Flags,
    group: Group,
    run: fn(&mut Call<'_, '_>) -> Done,
    summary: &'static str,
}

/// Which arguments are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyArgs {
    None,
    /// The first argument.
    One,
    /// The first argument, which names a bucket.
    Bucket,
    /// The first argument, which names a bucket under a policy.
    PolicyBucket,
    /// Every fourth one from the second on, which name buckets.
    Buckets,
    /// Every fourth one from the second on.
    Steps,
    /// The first two.
    Two,
    /// All arguments.
    All,
    /// Every second one from the first on.
    Pairs,
}

/// What is to be known of a command before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    /// Changes nothing.
    const READ: Self = Self(1);
    /// Changes keys.
    const WRITE: Self = Self(2);
    /// Takes the same short time for any arguments.
    const FAST: Self = Self(4);
    /// May be said by those who have not said who they are.
    const ANYONE: Self = Self(8);
    /// Is done at once in a transaction instead of waiting for its end.
    const AT_ONCE: Self = Self(16);
    /// Looks at all keys.
    const ALL_KEYS: Self = Self(32);
    /// Cannot be part of a transaction.
    const ALONE: Self = Self(64);
    /// May be said by those whose connection has messages between answers.
    const LISTENS: Self = Self(128);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a command is about, by which the documents are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Connection,
    Key,
    Limit,
    PubSub,
    Server,
    String,
    Transaction,
}

impl Group {
    const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Key => "generic",
            Self::Limit => "limits",
            Self::PubSub => "pubsub",
            Self::Server => "server",
            Self::String => "string",
            Self::Transaction => "transactions",
        }
    }
}

/// A command as documents show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandDoc {
    /// In capitals.
    pub name: &'static str,
    /// What it is about.
    pub group: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
}

/// All commands that the server has, by name.
pub fn commands() -> impl Iterator<Item = CommandDoc> {
    COMMANDS.iter().map(|command| CommandDoc {
        name: command.name,
        group: command.group.name(),
        summary: command.summary,
    })
}

/// The name of the command with this number; empty where there is none.
pub(crate) fn name_of(number: u16) -> &'static str {
    let command = COMMANDS.get(usize::from(number));
    command.map_or("", |command| command.name)
}

/// A command that is being done.
pub(crate) struct Call<'a, 'k> {
    pub(crate) args: Args<'a>,
    /// The first argument as a key, where it is one.
    first_key: Option<Key<'a>>,
    pub(crate) command: &'static Command,
    pub(crate) client: &'a mut Client,
    pub(crate) shared: &'k Arc<Shared>,
    pub(crate) keys: &'a mut Keys<'k>,
    pub(crate) out: Writer<'a>,
    pub(crate) now: Moment,
}

/// The way to keys: each shard when it is needed, or all that a transaction needs at once.
#[derive(Debug)]
pub(crate) enum Keys<'k> {
    Open(&'k Keyspace),
    Held(Held<'k>),
}

/// A shard that this thread has.
pub(crate) enum ShardRef<'a> {
    Free(ShardGuard<'a>),
    Held(&'a mut Shard),
}

impl std::ops::Deref for ShardRef<'_> {
    type Target = Shard;

    fn deref(&self) -> &Shard {
        match self {
            Self::Free(shard) => shard,
            Self::Held(shard) => shard,
        }
    }
}

impl std::ops::DerefMut for ShardRef<'_> {
    fn deref_mut(&mut self) -> &mut Shard {
        match self {
            Self::Free(shard) => shard,
            Self::Held(shard) => shard,
        }
    }
}

impl Keys<'_> {
    #[inline]
    pub(crate) fn shard(&mut self, key: Key<'_>) -> ShardRef<'_> {
        match self {
            Self::Open(keyspace) => ShardRef::Free(keyspace.shard(key)),
            Self::Held(held) => {
                let shard = held.shard(key);
                ShardRef::Held(shard.expect("a transaction holds the shards of all its keys"))
            }
        }
    }

    /// Does these steps as one, or none of them; their shards are held.
    pub(crate) fn transact(
        &mut self,
        steps: &[(Key<'_>, Step<'_>)],
        now_ms: u64,
    ) -> Result<Transacted, KeyError> {
        match self {
            Self::Open(keyspace) => keyspace.transact(steps, now_ms),
            Self::Held(held) => held.transact(steps, now_ms),
        }
    }

    /// Does something to every shard that can be had; all of them outside of transactions and in
    /// those that look at all keys.
    pub(crate) fn each(&mut self, mut what: impl FnMut(&mut Shard)) {
        match self {
            Self::Open(keyspace) => keyspace.shards().for_each(|mut shard| what(&mut shard)),
            Self::Held(held) => held.shards().for_each(what),
        }
    }

    /// Whether nothing is held yet, so that several shards may be.
    const fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

impl<'a> Call<'a, '_> {
    /// An argument; commands with too few do not come here.
    #[inline]
    fn arg(&self, index: usize) -> Result<&'a [u8], Failure> {
        self.args.get(index).ok_or(Failure::SYNTAX)
    }

    /// An argument that is a key.
    #[inline]
    fn key(&self, index: usize) -> Result<Key<'a>, Failure> {
        if let (1, Some(key)) = (index, self.first_key) {
            return Ok(key);
        }
        Ok(self.shared.keys.key(self.arg(index)?))
    }

    /// An argument that is a whole number.
    fn integer(&self, index: usize) -> Result<i64, Failure> {
        parse_integer(self.arg(index)?).ok_or(Failure::NOT_AN_INTEGER)
    }

    /// Milliseconds now.
    #[inline]
    const fn now_ms(&self) -> u64 {
        self.now.ms()
    }

    /// Whether an argument is this word in any case.
    fn is(&self, index: usize, word: &str) -> bool {
        let arg = self.args.get(index);
        arg.is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Holds the shards of these keys, so that a command with many is one step for everyone else;
    /// those of a transaction are held already.
    fn hold(&mut self, keys: impl Iterator<Item = Key<'a>>) {
        if self.keys.is_open() {
            *self.keys = Keys::Held(self.shared.keys.hold(keys));
        }
    }

    fn unknown_subcommand(&self) -> Failure {
        let name = self.command.name;
        let subcommand = String::from_utf8_lossy(self.args.get(1).unwrap_or_default());
        let subcommand: String = subcommand.chars().take(128).collect();
        Failure::with(format!(
            "ERR unknown subcommand '{subcommand}'. Try {name} HELP."
        ))
    }
}

impl Command {
    /// Whether it changes what is kept on a disk. Buckets are not.
    const fn changes_keys(&self) -> bool {
        let is_bucket = matches!(
            self.keys,
            KeyArgs::Bucket | KeyArgs::Buckets | KeyArgs::PolicyBucket
        );
        self.flags.has(Flags::WRITE) && !is_bucket
    }

    const fn takes(&self, args: usize) -> bool {
        match self.arity {
            arity if arity < 0 => args >= arity.unsigned_abs() as usize,
            arity => args == arity as usize,
        }
    }

    /// Which of so many arguments are keys: first, last and step; all 0 for none.
    const fn key_range(&self) -> (usize, i64, usize) {
        match self.keys {
            KeyArgs::None => (0, 0, 0),
            KeyArgs::One | KeyArgs::Bucket | KeyArgs::PolicyBucket => (1, 1, 1),
            KeyArgs::Buckets | KeyArgs::Steps => (2, -1, 4),
            KeyArgs::Two => (1, 2, 1),
            KeyArgs::All => (1, -1, 1),
            KeyArgs::Pairs => (1, -1, 2),
        }
    }

    /// The keys among the arguments.
    fn keys_of<'a, A: AsRef<[u8]>>(&self, args: &'a [A]) -> impl Iterator<Item = &'a [u8]> {
        let (first, last, step) = self.key_range();
        let end = match last {
            0 => 0,
            last if last < 0 => args.len(),
            last => (last as usize + 1).min(args.len()),
        };
        let range = args.get(first..end).unwrap_or_default();
        range.iter().step_by(step.max(1)).map(AsRef::as_ref)
    }
}

/// A command that was looked up ahead of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    number: u16,
    command: &'static Command,
    /// Its first key, with the hash that it takes a while to compute.
    key: Option<Key<'a>>,
}

/// Looks up a command and has its first key brought near.
#[inline]
pub(crate) fn look_ahead<'a>(shared: &Shared, args: Args<'a>) -> Option<Known<'a>> {
    let (number, command) = shared.lookup.find(args.get(0)?)?;
    let mut key = None;
    match (command.keys, args.get(1)) {
        (KeyArgs::None | KeyArgs::Buckets | KeyArgs::Steps, _) | (_, None) => {}
        (KeyArgs::Bucket, Some(name)) => shared.buckets.prefetch(name),
        (KeyArgs::PolicyBucket, Some(name)) => {
            let prefetch = |policy: &Policy| shared.buckets.prefetch_by(policy, name);
            shared.policies.with(name, prefetch);
        }
        (_, Some(name)) => {
            let found = shared.keys.key(name);
            shared.keys.prefetch(found);
            key = Some(found);
        }
    }
    Some(Known {
        number,
        command,
        key,
    })
}

/// Does a command of a client and writes its answer to `out`.
pub(crate) fn run(
    shared: &Arc<Shared>,
    counters: &Counters,
    client: &mut Client,
    (known, args): (Option<Known<'_>>, Args<'_>),
    out: &mut Vec<u8>,
    now: Moment,
) {
    let start = out.len();
    let done = start_command(shared, client, (known, args), out, now);
    if let Err(failure) = done {
        counters.errors.add(1);
        out.truncate(start);
        Writer::new(out, client.version).error(failure.text());
    }
}

fn start_command(
    shared: &Arc<Shared>,
    client: &mut Client,
    (known, args): (Option<Known<'_>>, Args<'_>),
    out: &mut Vec<u8>,
    now: Moment,
) -> Done {
    let Known {
        number,
        command,
        key,
    } = check(known, args).inspect_err(|_| spoil(client))?;
    client.last_command = number;
    let flags = command.flags;
    if client.standing != Standing::Known {
        gate::check(shared, client, (number, command), args).inspect_err(|_| spoil(client))?;
    }
    let changes_keys = command.changes_keys();
    if changes_keys {
        may_change(shared).inspect_err(|_| spoil(client))?;
    }
    if client.transaction.is_some() && !flags.has(Flags::AT_ONCE) {
        if let Some(cluster) = &shared.cluster {
            cluster::may_queue(cluster, client, command, args).inspect_err(|_| spoil(client))?;
        }
        return transaction::queue(client, command, args, out);
    }
    client.is_unsettled |= changes_keys;
    let is_checked = client.standing == Standing::Checked;
    if is_checked {
        gate::before(shared, client, command, args);
    }
    let began = (!flags.has(Flags::FAST)).then(|| shared.clock.now());
    let version = client.version;
    let mut keys = Keys::Open(&shared.keys);
    if let Some(cluster) = &shared.cluster {
        let mut writer = Writer::new(out, version);
        let route = cluster::route(shared, cluster, client, (command, args), &mut writer, now)?;
        match route {
            cluster::Route::Here(found) => keys = found,
            cluster::Route::Answered => return Ok(()),
        }
    }
    let done = (command.run)(&mut Call {
        args,
        first_key: key,
        command,
        client,
        shared,
        keys: &mut keys,
        out: Writer::new(out, version),
        now,
    });
    drop(keys);
    if is_checked {
        gate::after(client, command);
    }
    if let Some(began) = began {
        let took = shared.clock.now().ns.saturating_sub(began.ns);
        let took = std::time::Duration::from_nanos(took);
        if took >= shared.config.slow {
            shared.slowlog.add(client, args, now, took);
        }
    }
    done
}

/// Whether keys are changed now, in the words of Redis.
fn may_change(shared: &Shared) -> Result<(), Failure> {
    let persistence = shared.persistence.as_ref();
    match persistence.and_then(|it| it.failure()) {
        None => Ok(()),
        Some(error) => Err(Failure::with(format!(
            "MISCONF Errors writing to the AOF file: {error}"
        ))),
    }
}

/// A transaction of which a command was refused does nothing.
fn spoil(client: &mut Client) {
    if let Some(transaction) = &mut client.transaction {
        transaction.is_broken = true;
    }
}

/// The command that is meant, where it may have so many arguments.
#[inline]
fn check<'a>(known: Option<Known<'a>>, args: Args<'_>) -> Result<Known<'a>, Failure> {
    let known = known.ok_or_else(|| unknown(args))?;
    match known.command.takes(args.len()) {
        true => Ok(known),
        false => Err(Failure::arity(known.command.name)),
    }
}

fn unknown(args: Args<'_>) -> Failure {
    let quoted = |arg: &[u8]| {
        let arg = arg.get(..128).unwrap_or(arg);
        format!("'{}' ", String::from_utf8_lossy(arg))
    };
    let name = quoted(args.get(0).unwrap_or_default());
    let rest: String = args.from(1).take(16).map(quoted).collect();
    let name = name.trim_end();
    Failure::with(format!(
        "ERR unknown command {name}, with args beginning with: {rest}"
    ))
}
