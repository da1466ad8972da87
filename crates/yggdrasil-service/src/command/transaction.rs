//! Several commands as one.

use resp::{Args, Limits, Parser, Writer};
use yggdrasil::Entry;

use super::{Call, Command, Done, Flags, Keys, check, gate, look_ahead, spoil};
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
    let mut needs_all = false;
    let mut names: Vec<Vec<u8>> = watched.iter().map(|(name, _)| name.clone()).collect();
    for args in &transaction.commands {
        resp::command(&mut encoded, args);
        let name = args.first().map(Vec::as_slice).unwrap_or_default();
        if let Some((_, command)) = call.shared.lookup.find(name) {
            needs_all |= command.flags.has(Flags::ALL_KEYS);
            names.extend(command.keys_of(args).map(<[u8]>::to_vec));
        }
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
