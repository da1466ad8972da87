//! What a client that is not free to do anything may do.

use resp::Args;

use super::{Command, Done, Flags};
use crate::client::{Client, Standing};
use crate::failure::Failure;
use crate::feed::{Choice, silence};
use crate::shared::Shared;

/// Whether a command may be done or kept for later.
#[cold]
pub(super) fn check(client: &Client, command: &Command, args: Args<'_>) -> Done {
    if client.standing == Standing::Unknown && !command.flags.has(Flags::ANYONE) {
        return Err(Failure::NO_AUTH);
    }
    if client.only_listens() && !command.flags.has(Flags::LISTENS) {
        let name = full_name(command, args);
        return Err(Failure::with(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context"
        )));
    }
    Ok(())
}

/// The name of a command as errors show it.
fn full_name(command: &Command, _: Args<'_>) -> String {
    command.name.to_ascii_lowercase()
}

/// Has what follows from a command told to the right clients.
#[cold]
pub(super) fn before(shared: &Shared, client: &Client, command: &Command, args: Args<'_>) {
    let Some(caching) = client.feed.as_ref().and_then(|feed| feed.caching.as_ref()) else {
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
