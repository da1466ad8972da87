//! Several commands as one.

use resp::{Args, Limits, Parser, Writer};
use yggdrasil::{Condition, Entry, Lifetime, STEPS_MAX, Step, Transacted};

use super::{Call, Command, Done, Flags, Keys, check, expiry, gate, look_ahead, may_change, spoil};
use crate::client::{Client, Standing};
use crate::failure::Failure;
use crate::limits;

pub(super) fn multi(call: &mut Call<'_, '_>) -> Done {
    if call.client.transaction.is_some() {
        return Err(Failure::new("ERR MULTI calls can not be nested"));
    }
    call.client.transaction = Some(Box::default());
    call.out.ok();
    Ok(())
}

pub(super) fn discard(call: &mut Call<'_, '_>) -> Done {
    if call.client.transaction.take().is_none() {
        return Err(Failure::new("ERR DISCARD without MULTI"));
    }
    call.client.watched.clear();
    call.out.ok();
    Ok(())
}

pub(super) fn watch(call: &mut Call<'_, '_>) -> Done {
    if call.client.transaction.is_some() {
        return Err(Failure::new("ERR WATCH inside MULTI is not allowed"));
    }
    let now_ms = call.now_ms();
    if call.client.watched.len() + call.args.len() > limits::WATCHED_MAX {
        return Err(Failure::new("ERR too many keys are watched"));
    }
    for name in call.args.from(1) {
        let key = call.shared.keys.key(name);
        let shard = call.keys.shard(key);
        let version = shard.peek(key, now_ms).map_or(0, Entry::version);
        drop(shard);
        call.client.watched.push((name.to_vec(), version));
    }
    call.out.ok();
    Ok(())
}

pub(super) fn unwatch(call: &mut Call<'_, '_>) -> Done {
    call.client.watched.clear();
    call.out.ok();
    Ok(())
}

/// Keeps a command until `EXEC`.
pub(super) fn queue(
    client: &mut Client,
    command: &Command,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Done {
    if command.flags.has(Flags::ALONE) {
        spoil(client);
        let name = command.name;
        return Err(Failure::with(format!(
            "ERR {name} is not allowed in a transaction"
        )));
    }
    let Some(transaction) = &mut client.transaction else {
        return Ok(());
    };
    let bytes: usize = args.iter().map(<[u8]>::len).sum();
    transaction.bytes += bytes;
    if transaction.commands.len() >= limits::QUEUED_COMMANDS_MAX
        || transaction.bytes > limits::QUEUED_BYTES_MAX
    {
        transaction.is_broken = true;
        return Err(Failure::new("ERR the transaction is too long"));
    }
    if !transaction.is_broken {
        transaction
            .commands
            .push(args.iter().map(<[u8]>::to_vec).collect());
    }
    Writer::new(out, client.version).raw(b"+QUEUED\r\n");
    Ok(())
}

pub(super) fn exec(call: &mut Call<'_, '_>) -> Done {
    let Some(transaction) = call.client.transaction.take() else {
        return Err(Failure::new("ERR EXEC without MULTI"));
    };
    let watched = std::mem::take(&mut call.client.watched);
    if transaction.is_broken {
        return Err(Failure::new(
            "EXECABORT Transaction discarded because of previous errors.",
        ));
    }
    let mut encoded = Vec::with_capacity(transaction.bytes + 64);
    let (mut needs_all, mut changes_keys) = (false, false);
    let mut names: Vec<Vec<u8>> = watched.iter().map(|(name, _)| name.clone()).collect();
    for args in &transaction.commands {
        resp::command(&mut encoded, args);
        let name = args.first().map(Vec::as_slice).unwrap_or_default();
        if let Some((_, command)) = call.shared.lookup.find(name) {
            needs_all |= command.flags.has(Flags::ALL_KEYS);
            changes_keys |= command.changes_keys();
            names.extend(command.keys_of(args).map(<[u8]>::to_vec));
        }
    }
    if changes_keys {
        may_change(call.shared).map_err(|failure| {
            let cause = failure.text();
            Failure::with(format!(
                "EXECABORT Transaction discarded because of: {cause}"
            ))
        })?;
        call.client.is_unsettled = true;
    }
    let keyspace = &call.shared.keys;
    let mut keys = Keys::Held(match needs_all {
        true => keyspace.hold_all(),
        false => keyspace.hold(names.iter().map(|name| keyspace.key(name))),
    });
    if let Some(cluster) = &call.shared.cluster {
        super::cluster::may_run(call.shared, cluster, &names, &mut keys, call.now)?;
    }
    let now_ms = call.now_ms();
    let changed = watched.iter().any(|(name, version)| {
        let key = keyspace.key(name);
        keys.shard(key).peek(key, now_ms).map_or(0, Entry::version) != *version
    });
    if changed {
        call.out.null_array();
        return Ok(());
    }
    call.out.array(transaction.commands.len());
    run(call, &mut keys, &encoded)
}

/// `YGG.TRANSACT (step key argument lifetime)...`: everything or nothing. Steps `ABSENT`, `PRESENT`,
/// `EQUALS`, `VERSION` and `ALWAYS` say what has to be there, `SET`, `DEL` and `INCRBY` what is changed
/// then; only `SET` has a lifetime: milliseconds, `KEEPTTL` or nothing. Answers 1 and what each counter is
/// now, or 0 and the place of the step that did not hold, from 0 on.
pub(super) fn transact(call: &mut Call<'_, '_>) -> Done {
    let words = call.args.len() - 1;
    if !words.is_multiple_of(4) {
        return Err(Failure::arity(call.command.name));
    }
    if words / 4 > STEPS_MAX {
        return Err(Failure::new("ERR the transaction is too long"));
    }
    let step = |index| {
        Ok((
            call.shared.keys.key(call.arg(index + 1)?),
            step(call, index)?,
        ))
    };
    let steps: Result<Vec<_>, Failure> = (1..=words).step_by(4).map(step).collect();
    let (steps, now_ms) = (steps?, call.now_ms());
    let transacted = call.keys.transact(&steps, now_ms)?;
    match transacted {
        Transacted::Done(sums) => {
            call.out.array(1 + sums.len());
            call.out.integer(1);
            sums.iter().for_each(|sum| call.out.integer(*sum));
        }
        Transacted::Refused(index) => {
            call.out.array(2);
            call.out.integer(0);
            call.out.integer(index as i64);
        }
    }
    Ok(())
}

/// The step whose word is at this place.
fn step<'a>(call: &Call<'a, '_>, index: usize) -> Result<Step<'a>, Failure> {
    let (argument, lifetime) = (call.arg(index + 2)?, call.arg(index + 3)?);
    let step = match () {
        () if call.is(index, "SET") => {
            let lifetime = match lifetime {
                b"" => Lifetime::Unlimited,
                word if word.eq_ignore_ascii_case(b"KEEPTTL") => Lifetime::Keep,
                _ => {
                    let ms = expiry::Unit::Milliseconds;
                    Lifetime::Until(expiry::from_now(call, index + 3, ms)?)
                }
            };
            return Ok(Step::Set(argument, lifetime));
        }
        () if call.is(index, "ALWAYS") => Step::Check(Condition::Always),
        () if call.is(index, "ABSENT") => Step::Check(Condition::Absent),
        () if call.is(index, "PRESENT") => Step::Check(Condition::Present),
        () if call.is(index, "EQUALS") => Step::Check(Condition::Equals(argument)),
        () if call.is(index, "VERSION") => {
            let version = u64::try_from(call.integer(index + 2)?);
            Step::Check(Condition::Version(
                version.map_err(|_| Failure::NOT_AN_INTEGER)?,
            ))
        }
        () if call.is(index, "DEL") => Step::Remove,
        () if call.is(index, "INCRBY") => Step::Add(call.integer(index + 2)?),
        () => return Err(Failure::SYNTAX),
    };
    match lifetime {
        b"" => Ok(step),
        _ => Err(Failure::SYNTAX),
    }
}

/// Does commands one after the other, each with its own answer or error.
fn run<'k>(call: &mut Call<'_, 'k>, keys: &mut Keys<'k>, commands: &[u8]) -> Done {
    let mut parser = Parser::new();
    let (mut rest, mut answers) = (commands, Vec::new());
    // They were checked when they were queued.
    let limits = Limits {
        arg_bytes_max: usize::MAX,
        command_bytes_max: u32::MAX as usize,
        ..Limits::default()
    };
    while let Ok(Some(used)) = parser.parse(rest, &limits) {
        let args = parser.args(rest);
        answers.clear();
        let version = call.client.version;
        let known = look_ahead(call.shared, args);
        let is_checked = call.client.standing == Standing::Checked;
        let done = check(known, args).and_then(|known| {
            if is_checked {
                let command = (known.number, known.command);
                gate::check_again(call.shared, call.client, command, args)?;
                gate::before(call.shared, call.client, known.command, args);
            }
            (known.command.run)(&mut Call {
                args,
                first_key: known.key,
                command: known.command,
                client: &mut *call.client,
                shared: call.shared,
                keys: &mut *keys,
                out: Writer::new(&mut answers, version),
                now: call.now,
            })
        });
        if let Err(failure) = done {
            answers.clear();
            Writer::new(&mut answers, version).error(failure.text());
        }
        call.out.raw(&answers);
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(())
}
