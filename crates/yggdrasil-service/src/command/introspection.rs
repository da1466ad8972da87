//! Commands about commands.

use resp::Writer;

use super::table::COMMANDS;
use super::{Call, Command, Done, Flags, category};
use crate::failure::Failure;

pub(super) fn command(call: &mut Call<'_, '_>) -> Done {
    let subcommand = call.args.get(1).unwrap_or_default().to_ascii_uppercase();
    match (subcommand.as_slice(), call.args.len()) {
        (b"", _) => {
            call.out.array(COMMANDS.len());
            COMMANDS.iter().for_each(|one| describe(&mut call.out, one));
        }
        (b"COUNT", 2) => call.out.integer(COMMANDS.len() as i64),
        (b"LIST", 2) => {
            call.out.array(COMMANDS.len());
            for one in COMMANDS {
                call.out.bulk(one.name.to_ascii_lowercase().as_bytes());
            }
        }
        (b"INFO", _) => {
            let named = named(call);
            call.out.array(named.len());
            for one in named {
                match one {
                    Some(one) => describe(&mut call.out, one),
                    None => call.out.null_array(),
                }
            }
        }
        (b"DOCS", _) => {
            let named: Vec<_> = named(call).into_iter().flatten().collect();
            call.out.map(named.len());
            named
                .into_iter()
                .for_each(|one| document(&mut call.out, one));
        }
        (b"GETKEYS", 3..) => keys(call)?,
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

/// The commands that are asked about; all where none is named.
fn named(call: &Call<'_, '_>) -> Vec<Option<&'static Command>> {
    match call.args.len() {
        ..3 => COMMANDS.iter().map(Some).collect(),
        _ => {
            let names = call.args.from(2);
            let find = |name| call.shared.lookup.find(name).map(|(_, command)| command);
            names.map(find).collect()
        }
    }
}

fn describe(out: &mut Writer<'_>, command: &Command) {
    let (first, last, step) = command.key_range();
    let flags = [
        (Flags::WRITE, "write"),
        (Flags::READ, "readonly"),
        (Flags::FAST, "fast"),
        (Flags::ANYONE, "no_auth"),
    ];
    let flags: Vec<_> = flags
        .into_iter()
        .filter(|(flag, _)| command.flags.has(*flag))
        .collect();
    out.array(10);
    out.bulk(command.name.to_ascii_lowercase().as_bytes());
    out.integer(i64::from(command.arity));
    out.set(flags.len());
    for (_, name) in flags {
        out.simple(name);
    }
    out.integer(first as i64);
    out.integer(last);
    out.integer(step as i64);
    // Categories of access lists, hints, ranges of keys, subcommands.
    let categories: Vec<_> = category::names_of(command).collect();
    out.set(categories.len());
    for name in categories {
        out.simple(&format!("@{name}"));
    }
    out.array(0);
    out.array(0);
    out.array(0);
}

fn document(out: &mut Writer<'_>, command: &Command) {
    out.bulk(command.name.to_ascii_lowercase().as_bytes());
    out.map(2);
    out.bulk(b"summary");
    out.bulk(command.summary.as_bytes());
    out.bulk(b"group");
    out.bulk(command.group.name().as_bytes());
}

fn keys(call: &mut Call<'_, '_>) -> Done {
    let args: Vec<&[u8]> = call.args.from(2).collect();
    let name = args.first().copied().unwrap_or_default();
    let Some((_, command)) = call.shared.lookup.find(name) else {
        return Err(Failure::new("ERR Invalid command specified"));
    };
    if !command.takes(args.len()) {
        return Err(Failure::new(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    let keys: Vec<&[u8]> = command.keys_of(&args).collect();
    if keys.is_empty() {
        return Err(Failure::new("ERR The command has no key arguments"));
    }
    call.out.array(keys.len());
    keys.into_iter().for_each(|key| call.out.bulk(key));
    Ok(())
}

/// `FUNCTION FLUSH`: there are no functions, so none is left.
pub(super) fn function(call: &mut Call<'_, '_>) -> Done {
    match call.is(1, "FLUSH") {
        true => {
            call.out.ok();
            Ok(())
        }
        false => Err(call.unknown_subcommand()),
    }
}
