//! Clients that keep what they read.

use std::sync::Arc;

use resp::Version;

use super::{Call, Done};
use crate::failure::Failure;
use crate::feed::{Caching, Choice};
use crate::limits::{FEED_BYTES_MAX, TOPIC_BYTES_MAX};

/// What stands behind `CLIENT TRACKING ON`.
#[derive(Default)]
struct Options<'a> {
    broadcast: bool,
    no_loop: bool,
    opt_in: bool,
    opt_out: bool,
    prefixes: Vec<&'a [u8]>,
}

/// `CLIENT TRACKING ON|OFF [BCAST] [PREFIX p ...] [OPTIN|OPTOUT] [NOLOOP]`.
pub(super) fn tracking(call: &mut Call<'_, '_>) -> Done {
    let options = options(call)?;
    if call.is(2, "OFF") {
        call.client.stop_caching(call.shared);
        call.out.ok();
        return Ok(());
    }
    if !call.is(2, "ON") {
        return Err(Failure::SYNTAX);
    }
    if call.client.version != Version::Resp3 {
        return Err(Failure::new(
            "ERR what a cache must not believe is told in RESP3 only; say HELLO 3 first",
        ));
    }
    if !call.keys.is_open() {
        return Err(Failure::new(
            "ERR CLIENT TRACKING is not allowed in a transaction",
        ));
    }
    let before = call.client.feed.as_ref().and_then(|it| it.caching.clone());
    let caching = caching(&options, before.as_ref())?;
    turn_on(call, before, caching);
    call.out.ok();
    Ok(())
}

fn options<'a>(call: &Call<'a, '_>) -> Result<Options<'a>, Failure> {
    let mut options = Options::default();
    let mut index = 3;
    while index < call.args.len() {
        match call.arg(index)?.to_ascii_uppercase().as_slice() {
            b"BCAST" => options.broadcast = true,
            b"NOLOOP" => options.no_loop = true,
            b"OPTIN" => options.opt_in = true,
            b"OPTOUT" => options.opt_out = true,
            b"PREFIX" => {
                index += 1;
                options.prefixes.push(call.arg(index)?);
            }
            b"REDIRECT" => {
                call.arg(index + 1)?;
                return Err(Failure::new(
                    "ERR REDIRECT is not supported; say HELLO 3 and be told on the same connection",
                ));
            }
            _ => return Err(Failure::SYNTAX),
        }
        index += 1;
    }
    Ok(options)
}

/// What the client is to be told, with the beginnings of keys that it named before.
fn caching(options: &Options<'_>, before: Option<&Caching>) -> Result<Caching, Failure> {
    if !options.prefixes.is_empty() && !options.broadcast {
        return Err(Failure::new(
            "ERR PREFIX option requires BCAST mode to be enabled",
        ));
    }
    if before.is_some_and(|before| before.broadcast.is_some() != options.broadcast) {
        return Err(Failure::new(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and \
             then re-enabling it with a different mode.",
        ));
    }
    if options.broadcast && (options.opt_in || options.opt_out) {
        return Err(Failure::new(
            "ERR OPTIN and OPTOUT are not compatible with BCAST",
        ));
    }
    let choice = match (options.opt_in, options.opt_out) {
        (true, true) => {
            return Err(Failure::new(
                "ERR You can't specify both OPTIN mode and OPTOUT mode",
            ));
        }
        (true, false) => Choice::OptIn,
        (false, true) => Choice::OptOut,
        (false, false) => Choice::All,
    };
    if before
        .is_some_and(|it| it.choice != choice && choice != Choice::All && it.choice != Choice::All)
    {
        return Err(Failure::new(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
             then re-enabling it with a different mode.",
        ));
    }
    Ok(Caching {
        broadcast: prefixes(options, before)?,
        no_loop: options.no_loop,
        choice,
        next: None,
    })
}

fn prefixes(
    options: &Options<'_>,
    before: Option<&Caching>,
) -> Result<Option<Vec<Arc<[u8]>>>, Failure> {
    if !options.broadcast {
        return Ok(None);
    }
    let mut all: Vec<Arc<[u8]>> = before
        .and_then(|before| before.broadcast.clone())
        .unwrap_or_default();
    let old = all.len();
    let mut bytes = all.iter().map(|prefix| prefix.len() + 128).sum::<usize>();
    for prefix in &options.prefixes {
        bytes += prefix.len() + 128;
        if prefix.len() > TOPIC_BYTES_MAX || bytes > FEED_BYTES_MAX {
            return Err(Failure::new("ERR the prefixes are too long"));
        }
    }
    for (index, prefix) in options.prefixes.iter().enumerate() {
        let overlaps = |other: &[u8]| other.starts_with(prefix) || prefix.starts_with(other);
        let show = |prefix: &[u8]| String::from_utf8_lossy(prefix).into_owned();
        let others = options.prefixes.iter().skip(index + 1);
        if let Some(other) = others.copied().find(|other| overlaps(other)) {
            return Err(overlap(&show(prefix), "another provided", &show(other)));
        }
        if let Some(other) = all.iter().take(old).find(|other| overlaps(other)) {
            return Err(overlap(&show(prefix), "an existing", &show(other)));
        }
        all.push(Arc::from(*prefix));
    }
    if all.is_empty() {
        all.push(Arc::from(&b""[..]));
    }
    Ok(Some(all))
}

fn overlap(prefix: &str, which: &str, other: &str) -> Failure {
    Failure::with(format!(
        "ERR Prefix '{prefix}' overlaps with {which} prefix '{other}'. Prefixes for a single client \
         must not overlap."
    ))
}

fn turn_on(call: &mut Call<'_, '_>, before: Option<Caching>, caching: Caching) {
    let (place, id, changes) = (call.client.place, call.client.info.id, &call.shared.changes);
    let old = before.as_ref().and_then(|it| it.broadcast.as_ref());
    for prefix in caching.broadcast.iter().flatten() {
        if !old.is_some_and(|old| old.contains(prefix)) {
            changes.broadcast(prefix, place, id);
        }
    }
    let feed = call.client.feed.get_or_insert_default();
    feed.caching = Some(caching);
    if before.is_none() {
        changes.add_cache(place, id);
        changes.begin(&call.shared.keys);
    }
    call.client.stand();
}

/// `CLIENT CACHING YES|NO`: whether the client keeps what it reads next.
pub(super) fn caching_next(call: &mut Call<'_, '_>) -> Done {
    let feed = call.client.feed.as_mut();
    let caching = feed.and_then(|feed| feed.caching.as_mut());
    let choice = caching.as_ref().map(|caching| caching.choice);
    let word = call.args.get(2).unwrap_or_default().to_ascii_uppercase();
    let next = match (word.as_slice(), choice) {
        (_, None) => {
            return Err(Failure::new(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with \
                 OPTIN or OPTOUT mode enabled",
            ));
        }
        (b"YES", Some(Choice::OptIn)) => true,
        (b"NO", Some(Choice::OptOut)) => false,
        (b"YES", _) => {
            return Err(Failure::new(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        (b"NO", _) => {
            return Err(Failure::new(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(Failure::SYNTAX),
    };
    if let Some(caching) = caching {
        caching.next = Some(next);
    }
    call.out.ok();
    Ok(())
}

/// `CLIENT TRACKINGINFO`.
pub(super) fn info(call: &mut Call<'_, '_>) -> Done {
    let caching = call.client.feed.as_ref().and_then(|it| it.caching.clone());
    let mut flags = Vec::new();
    match &caching {
        None => flags.push("off"),
        Some(caching) => {
            flags.push("on");
            flags.extend(caching.broadcast.as_ref().map(|_| "bcast"));
            match caching.choice {
                Choice::All => {}
                Choice::OptIn => flags.push("optin"),
                Choice::OptOut => flags.push("optout"),
            }
            match caching.next {
                None => {}
                Some(true) => flags.push("caching-yes"),
                Some(false) => flags.push("caching-no"),
            }
            if caching.no_loop {
                flags.push("noloop");
            }
        }
    }
    call.out.map(3);
    call.out.bulk(b"flags");
    call.out.set(flags.len());
    flags.iter().for_each(|it| call.out.bulk(it.as_bytes()));
    call.out.bulk(b"redirect");
    redirect(call);
    call.out.bulk(b"prefixes");
    let prefixes = caching.and_then(|it| it.broadcast).unwrap_or_default();
    call.out.array(prefixes.len());
    prefixes.iter().for_each(|it| call.out.bulk(it));
    Ok(())
}

/// `CLIENT GETREDIR`: 0 for a client that is told itself, -1 for one that is not told anything.
pub(super) fn redirect(call: &mut Call<'_, '_>) {
    let feed = call.client.feed.as_ref();
    let is_on = feed.is_some_and(|feed| feed.caching.is_some());
    call.out.integer(if is_on { 0 } else { -1 });
}
