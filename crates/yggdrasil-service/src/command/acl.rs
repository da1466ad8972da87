//! Users, as commands see them.

use super::gate::{self, Denied};
use super::{Call, Done, category};
use crate::acl::{self, ChangeError, DEFAULT};
use crate::failure::Failure;

/// Bits of a password that is made where none are named.
const PASSWORD_BITS: i64 = 256;
const PASSWORD_BITS_MAX: i64 = 4096;

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        Self::with(format!("ERR {error}"))
    }
}

pub(super) fn acl(call: &mut Call<'_, '_>) -> Done {
    let subcommand = call.arg(1)?.to_ascii_uppercase();
    match (subcommand.as_slice(), call.args.len()) {
        (b"WHOAMI", 2) => {
            let user = call.client.user_name().to_owned();
            call.out.bulk(user.as_bytes());
        }
        (b"USERS", 2) => {
            let names = call.shared.acl.names();
            call.out.array(names.len());
            names.iter().for_each(|it| call.out.bulk(it.as_bytes()));
        }
        (b"LIST", 2) => {
            let users = call.shared.acl.all();
            call.out.array(users.len());
            users.iter().for_each(|it| call.out.bulk(&it.line()));
        }
        (b"GETUSER", 3) => get(call)?,
        (b"SETUSER", 3..) => set(call)?,
        (b"DELUSER", 3..) => delete(call)?,
        (b"CAT", 2 | 3) => categories(call)?,
        (b"GENPASS", 2 | 3) => password(call)?,
        (b"DRYRUN", 4..) => dry_run(call)?,
        (b"LOG", 2 | 3) => log(call)?,
        (b"LOAD", 2) => {
            let gone = call.shared.acl.load(&call.shared.lookup)?;
            end_clients(call, &gone);
            call.out.ok();
        }
        (b"SAVE", 2) => {
            call.shared.acl.save()?;
            call.out.ok();
        }
        (b"HELP", 2) => help(call),
        (name, _) if is_known(name) => {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(Failure::arity(&format!("acl|{name}")));
        }
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

fn is_known(name: &[u8]) -> bool {
    let known = "CAT DELUSER DRYRUN GENPASS GETUSER HELP LIST LOAD LOG SAVE SETUSER USERS WHOAMI";
    known.split(' ').any(|one| one.as_bytes() == name)
}

fn get(call: &mut Call<'_, '_>) -> Done {
    let name = String::from_utf8_lossy(call.arg(2)?).into_owned();
    let Some(user) = call.shared.acl.user(&name) else {
        call.out.null();
        return Ok(());
    };
    call.out.map(6);
    call.out.bulk(b"flags");
    call.out.set(1 + usize::from(user.needs_no_password));
    call.out.bulk(if user.is_on { b"on" } else { b"off" });
    if user.needs_no_password {
        call.out.bulk(b"nopass");
    }
    call.out.bulk(b"passwords");
    let digests = user.digests();
    call.out.array(digests.len());
    digests.for_each(|it| call.out.bulk(it.as_bytes()));
    for (name, rules) in [
        ("commands", user.commands().into_bytes()),
        ("keys", user.keys()),
        ("channels", user.channels()),
    ] {
        call.out.bulk(name.as_bytes());
        call.out.bulk(&rules);
    }
    call.out.bulk(b"selectors");
    call.out.array(0);
    Ok(())
}

fn set(call: &mut Call<'_, '_>) -> Done {
    let (name, rules) = (call.arg(2)?, call.args.from(3));
    call.shared.acl.set(name, rules, &call.shared.lookup)?;
    // This client's next command, which may have been sent already, is under the new rules.
    call.client.refresh(call.shared);
    call.out.ok();
    Ok(())
}

fn delete(call: &mut Call<'_, '_>) -> Done {
    if call.args.from(2).any(|name| name == DEFAULT.as_bytes()) {
        return Err(Failure::new("ERR The 'default' user cannot be removed"));
    }
    let names = call
        .args
        .from(2)
        .filter_map(|name| str::from_utf8(name).ok());
    let gone: Vec<String> = names
        .filter(|name| call.shared.acl.remove(name))
        .map(ToOwned::to_owned)
        .collect();
    end_clients(call, &gone);
    call.out.integer(gone.len() as i64);
    Ok(())
}

/// Ends the connections of users who are gone.
fn end_clients(call: &mut Call<'_, '_>, gone: &[String]) {
    for client in call.shared.clients.all() {
        if gone.contains(&client.said().user) {
            match client.id == call.client.info.id {
                // It still gets its answer.
                true => call.client.quits = true,
                false => client.kill(),
            }
        }
    }
    if !call.client.quits {
        call.client.refresh(call.shared);
    }
}

fn categories(call: &mut Call<'_, '_>) -> Done {
    let Some(name) = call.args.get(2) else {
        call.out.array(category::CATEGORIES.len());
        for name in category::CATEGORIES {
            call.out.bulk(name.as_bytes());
        }
        return Ok(());
    };
    let name = String::from_utf8_lossy(name);
    let Some(found) = category::in_category(&name) else {
        return Err(Failure::with(format!("ERR Unknown category '{name}'")));
    };
    call.out.array(found.len());
    for permission in found {
        call.out.bulk(category::name_of(permission).as_bytes());
    }
    Ok(())
}

fn password(call: &mut Call<'_, '_>) -> Done {
    let bits = match call.args.len() {
        2 => PASSWORD_BITS,
        _ => call.integer(2)?,
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(Failure::with(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive \
             number up to {PASSWORD_BITS_MAX}"
        )));
    }
    let password = acl::password(bits as usize);
    let password = password.ok_or(Failure::new("ERR the system gives no random bytes"))?;
    call.out.bulk(password.as_bytes());
    Ok(())
}

fn dry_run(call: &mut Call<'_, '_>) -> Done {
    let text = |index| {
        call.arg(index)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
    };
    let (name, command) = (text(2)?, text(3)?);
    let Some(user) = call.shared.acl.user(&name) else {
        return Err(Failure::with(format!("ERR User '{name}' not found")));
    };
    let Some((number, found)) = call.shared.lookup.find(command.as_bytes()) else {
        return Err(Failure::with(format!("ERR Command '{command}' not found")));
    };
    let args: Vec<&[u8]> = call.args.from(3).collect();
    if !found.takes(args.len()) {
        return Err(Failure::arity(found.name));
    }
    let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let what = match gate::permit(&user, (number, found), &args) {
        Ok(()) => {
            call.out.ok();
            return Ok(());
        }
        Err(Denied::Command(name)) => format!("run the '{name}' command"),
        Err(Denied::Key(key)) => format!("access the '{}' key", show(key)),
        Err(Denied::Channel(channel)) => format!("access the '{}' channel", show(channel)),
    };
    let text = format!("This user has no permissions to {what}");
    call.out.bulk(text.as_bytes());
    Ok(())
}

fn log(call: &mut Call<'_, '_>) -> Done {
    if call.is(2, "RESET") {
        call.shared.acl.log.clear();
        call.out.ok();
        return Ok(());
    }
    let count = match call.args.len() {
        2 => 10,
        _ => call.integer(2)?.max(0),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    call.shared.acl.log.write(count, call.now, &mut call.out);
    Ok(())
}

fn help(call: &mut Call<'_, '_>) {
    let lines = [
        "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "WHOAMI, USERS, LIST, GETUSER <username>",
        "    The user of this connection, all users, and what they may do.",
        "SETUSER <username> [<rule> ...], DELUSER <username> [<username> ...]",
        "    Make, change and remove users.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Whether a user may do a command.",
        "CAT [<category>], GENPASS [<bits>], LOG [<count> | RESET]",
        "    Categories of commands, a new password, and what was refused.",
        "LOAD, SAVE",
        "    Read users from their file, and write them to it.",
    ];
    call.out.array(lines.len());
    for line in lines {
        call.out.simple(line);
    }
}
