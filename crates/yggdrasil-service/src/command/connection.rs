//! A client about itself.

use resp::Version;

use super::{Call, Done, gate, tracking};
use crate::client::Standing;
use crate::failure::Failure;
use crate::limits;

pub(super) fn ping(call: &mut Call<'_, '_>) -> Done {
    if call.client.standing != Standing::Known && call.client.only_listens() {
        return pong(call);
    }
    match call.args.len() {
        1 => call.out.raw(b"+PONG\r\n"),
        2 => call.out.bulk(call.arg(1)?),
        _ => return Err(Failure::arity(call.command.name)),
    }
    Ok(())
}

/// The answer between messages, which has their form.
fn pong(call: &mut Call<'_, '_>) -> Done {
    if call.args.len() > 2 {
        return Err(Failure::arity(call.command.name));
    }
    call.out.array(2);
    call.out.bulk(b"pong");
    call.out.bulk(call.args.get(1).unwrap_or_default());
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_, '_>) -> Done {
    call.out.bulk(call.arg(1)?);
    Ok(())
}

pub(super) fn select(call: &mut Call<'_, '_>) -> Done {
    match call.integer(1)? {
        0 => call.out.ok(),
        _ => return Err(Failure::new("ERR DB index is out of range")),
    }
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_, '_>) -> Done {
    call.client.quits = true;
    call.out.ok();
    Ok(())
}

pub(super) fn reset(call: &mut Call<'_, '_>) -> Done {
    call.client.reset(call.shared);
    call.out.set_version(Version::Resp2);
    call.out.simple("RESET");
    Ok(())
}

pub(super) fn auth(call: &mut Call<'_, '_>) -> Done {
    let (user, password) = match call.args.len() {
        2 => (&b"default"[..], call.arg(1)?),
        3 => (call.arg(1)?, call.arg(2)?),
        _ => return Err(Failure::SYNTAX),
    };
    if call.args.len() == 2 && call.shared.acl.default_user().needs_no_password {
        return Err(Failure::new(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        ));
    }
    check(call, user, password)?;
    call.out.ok();
    Ok(())
}

fn check(call: &mut Call<'_, '_>, user: &[u8], password: &[u8]) -> Done {
    if let Some(user) = call.shared.acl.authenticate(user, password) {
        call.client.become_user(user);
        return Ok(());
    }
    let what = (
        call.command.name.to_ascii_lowercase().into_bytes(),
        &*String::from_utf8_lossy(user),
    );
    gate::refused(call.shared, call.client, ("auth", "toplevel"), what);
    call.client.auth_failures += 1;
    // Whoever guesses has to come anew.
    call.client.quits |= call.client.auth_failures >= limits::AUTH_FAILURES_MAX;
    Err(Failure::WRONG_PASSWORD)
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(call: &mut Call<'_, '_>) -> Done {
    let version = match call.args.get(1) {
        None => call.client.version,
        Some(b"2") => Version::Resp2,
        Some(b"3") => Version::Resp3,
        Some(other) if resp::parse_integer(other).is_none() => {
            return Err(Failure::new(
                "ERR Protocol version is not an integer or out of range",
            ));
        }
        Some(_) => return Err(Failure::new("NOPROTO unsupported protocol version")),
    };
    let (mut index, mut name) = (2, None);
    while index < call.args.len() {
        if call.is(index, "AUTH") && index + 2 < call.args.len() {
            let (user, password) = (call.arg(index + 1)?, call.arg(index + 2)?);
            check(call, user, password)?;
            index += 3;
        } else if call.is(index, "SETNAME") && index + 1 < call.args.len() {
            name = Some(name_of(call.arg(index + 1)?)?);
            index += 2;
        } else {
            let option = String::from_utf8_lossy(call.arg(index)?).into_owned();
            return Err(Failure::with(format!(
                "ERR Syntax error in HELLO option '{option}'"
            )));
        }
    }
    if call.client.standing == Standing::Unknown {
        return Err(Failure::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.client.info.said().name = name;
    }
    if version == Version::Resp2 {
        call.client.leave_changes(call.shared);
    }
    call.client.version = version;
    call.client.stand();
    call.out.set_version(version);
    call.out.map(7);
    call.out.bulk(b"server");
    call.out.bulk(b"redis");
    call.out.bulk(b"version");
    call.out.bulk(super::info::REDIS_VERSION.as_bytes());
    call.out.bulk(b"proto");
    call.out.integer(match version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    });
    call.out.bulk(b"id");
    call.out.integer(call.client.info.id as i64);
    call.out.bulk(b"mode");
    call.out.bulk(b"standalone");
    call.out.bulk(b"role");
    call.out.bulk(b"master");
    call.out.bulk(b"modules");
    call.out.array(0);
    Ok(())
}

/// A name that a client gives itself: printable and without spaces.
fn name_of(name: &[u8]) -> Result<String, Failure> {
    let is_plain = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
    match str::from_utf8(name) {
        Ok(name) if is_plain && name.len() <= limits::NAME_BYTES_MAX => Ok(name.to_owned()),
        _ => Err(Failure::new(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        )),
    }
}

pub(super) fn client(call: &mut Call<'_, '_>) -> Done {
    let len = call.args.len();
    match (call.arg(1)?.to_ascii_uppercase().as_slice(), len) {
        (b"ID", 2) => call.out.integer(call.client.info.id as i64),
        (b"GETNAME", 2) => match call.client.name().as_str() {
            "" => call.out.null(),
            name => call.out.bulk(name.as_bytes()),
        },
        (b"SETNAME", 3) => {
            let name = name_of(call.arg(2)?)?;
            call.client.info.said().name = name;
            call.out.ok();
        }
        (b"SETINFO", 4) => set_info(call)?,
        (b"INFO", 2) => {
            let line = call.client.info.line(call.now);
            call.out.verbatim(&format!("{line}\n"));
        }
        (b"LIST", _) => {
            let lines = call.shared.clients.all();
            let lines = lines.iter().map(|client| client.line(call.now) + "\n");
            call.out.verbatim(&lines.collect::<String>());
        }
        (b"KILL", _) => kill(call)?,
        (b"TRACKING", 2) => return Err(Failure::arity("client|tracking")),
        (b"TRACKING", _) => tracking::tracking(call)?,
        (b"CACHING", 3) => tracking::caching_next(call)?,
        (b"TRACKINGINFO", 2) => tracking::info(call)?,
        (b"GETREDIR", 2) => tracking::redirect(call),
        (b"NO-EVICT" | b"NO-TOUCH", 3) => call.out.ok(),
        (b"REPLY", 3) if call.is(2, "ON") => call.out.ok(),
        (b"HELP", 2) => help(call),
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

fn help(call: &mut Call<'_, '_>) {
    let lines = [
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME, SETNAME <name>, SETINFO <LIB-NAME|LIB-VER> <value>",
        "    The name of this connection, and the library behind it.",
        "ID, INFO, LIST",
        "    This connection, and all.",
        "KILL <address>, KILL <ID|ADDR> <value>",
        "    End connections.",
        "TRACKING <ON|OFF> [BCAST] [PREFIX <prefix> ...] [OPTIN|OPTOUT] [NOLOOP]",
        "CACHING <YES|NO>, TRACKINGINFO, GETREDIR",
        "    What a cache in this client must not believe any more.",
    ];
    call.out.array(lines.len());
    for line in lines {
        call.out.simple(line);
    }
}

fn set_info(call: &mut Call<'_, '_>) -> Done {
    let value = name_of(call.arg(3)?).map_err(|_| {
        Failure::new("ERR lib-name cannot contain spaces, newlines or special characters.")
    })?;
    let mut said = call.client.info.said();
    match call.arg(2)?.to_ascii_uppercase().as_slice() {
        b"LIB-NAME" => said.library = value,
        b"LIB-VER" => said.library_version = value,
        other => {
            let other = String::from_utf8_lossy(other).into_owned();
            return Err(Failure::with(format!("ERR Unrecognized option '{other}'")));
        }
    }
    drop(said);
    call.out.ok();
    Ok(())
}

/// Whose connection is to end.
enum Victim {
    Id(i64),
    Address(String),
}

/// `CLIENT KILL address`, or `CLIENT KILL ID n | ADDR address`.
fn kill(call: &mut Call<'_, '_>) -> Done {
    let text = |index| {
        call.arg(index)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
    };
    let victim = match call.args.len() {
        3 => Victim::Address(text(2)?),
        4 if call.is(2, "ID") => Victim::Id(call.integer(3)?),
        4 if call.is(2, "ADDR") => Victim::Address(text(3)?),
        _ => return Err(Failure::SYNTAX),
    };
    let mut killed = 0;
    for client in call.shared.clients.all() {
        let is_meant = match &victim {
            Victim::Id(id) => i64::try_from(client.id) == Ok(*id),
            Victim::Address(address) => client.address == *address,
        };
        if is_meant {
            killed += 1;
            match client.id == call.client.info.id {
                // It still gets its answer.
                true => call.client.quits = true,
                false => client.kill(),
            }
        }
    }
    match (call.args.len(), killed) {
        (4, killed) => call.out.integer(killed),
        (_, 0) => return Err(Failure::new("ERR No such client")),
        (_, _) => call.out.ok(),
    }
    Ok(())
}
