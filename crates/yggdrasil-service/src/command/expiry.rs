//! How long keys stay.

use yggdrasil::{Entry, Lifetime};

use super::{Call, Done};
use crate::failure::Failure;

/// What a time is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    const fn ms(self) -> i64 {
        match self {
            Self::Seconds => 1000,
            Self::Milliseconds => 1,
        }
    }
}

/// What a time is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Now,
    Epoch,
}

/// The milliseconds that an argument means.
fn moment(call: &Call<'_, '_>, index: usize, unit: Unit, base: Base) -> Result<i64, Failure> {
    let invalid = || Failure::expire(call.command.name);
    let base_ms = match base {
        Base::Now => call.now_ms() as i64,
        Base::Epoch => 0,
    };
    let ms = call.integer(index)?.checked_mul(unit.ms());
    ms.and_then(|ms| ms.checked_add(base_ms))
        .ok_or_else(invalid)
}

/// When something ends that an argument says how long to keep, at least for a moment.
pub(super) fn from_now(call: &Call<'_, '_>, index: usize, unit: Unit) -> Result<u64, Failure> {
    positive(call, index, unit, Base::Now)
}

fn positive(call: &Call<'_, '_>, index: usize, unit: Unit, base: Base) -> Result<u64, Failure> {
    if call.integer(index)? <= 0 {
        return Err(Failure::expire(call.command.name));
    }
    let ms = moment(call, index, unit, base)?;
    u64::try_from(ms).map_err(|_| Failure::expire(call.command.name))
}

/// `EX`, `PX`, `EXAT`, `PXAT` with their numbers or `KEEPTTL`, and how many arguments they are.
pub(super) fn option(call: &Call<'_, '_>, index: usize) -> Result<(Lifetime, usize), Failure> {
    let (unit, base) = match call.arg(index)?.to_ascii_uppercase().as_slice() {
        b"KEEPTTL" => return Ok((Lifetime::Keep, 1)),
        b"EX" => (Unit::Seconds, Base::Now),
        b"PX" => (Unit::Milliseconds, Base::Now),
        b"EXAT" => (Unit::Seconds, Base::Epoch),
        b"PXAT" => (Unit::Milliseconds, Base::Epoch),
        _ => return Err(Failure::SYNTAX),
    };
    let end_ms = positive(call, index + 1, unit, base)?;
    Ok((Lifetime::Until(end_ms), 2))
}

pub(super) fn expire(call: &mut Call<'_, '_>) -> Done {
    set_end(call, Unit::Seconds, Base::Now)
}

pub(super) fn pexpire(call: &mut Call<'_, '_>) -> Done {
    set_end(call, Unit::Milliseconds, Base::Now)
}

pub(super) fn expireat(call: &mut Call<'_, '_>) -> Done {
    set_end(call, Unit::Seconds, Base::Epoch)
}

pub(super) fn pexpireat(call: &mut Call<'_, '_>) -> Done {
    set_end(call, Unit::Milliseconds, Base::Epoch)
}

/// Which ends an `EXPIRE` replaces.
#[derive(Default)]
struct Only {
    absent: bool,
    present: bool,
    later: bool,
    earlier: bool,
}

fn only(call: &Call<'_, '_>) -> Result<Only, Failure> {
    let mut only = Only::default();
    for option in call.args.from(3) {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" => only.absent = true,
            b"XX" => only.present = true,
            b"GT" => only.later = true,
            b"LT" => only.earlier = true,
            _ => {
                let option = String::from_utf8_lossy(option);
                let option: String = option.chars().take(128).collect();
                return Err(Failure::with(format!("ERR Unsupported option {option}")));
            }
        }
    }
    if only.absent && (only.present || only.later || only.earlier) {
        return Err(Failure::new(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if only.later && only.earlier {
        return Err(Failure::new(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(only)
}

impl Only {
    fn allows(&self, old_ms: Option<u64>, new_ms: u64) -> bool {
        // No end is the latest of all.
        let old = old_ms.unwrap_or(u64::MAX);
        !(self.absent && old_ms.is_some()
            || self.present && old_ms.is_none()
            || self.later && new_ms <= old
            || self.earlier && new_ms >= old)
    }
}

fn set_end(call: &mut Call<'_, '_>, unit: Unit, base: Base) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let end_ms = moment(call, 2, unit, base)?;
    let only = only(call)?;
    // What should have ended long ago ends now.
    let end_ms = u64::try_from(end_ms).unwrap_or(0);
    let mut shard = call.keys.shard(key);
    let found = shard.peek(key, now_ms).map(Entry::end_ms);
    let done = found.is_some_and(|old_ms| only.allows(old_ms, end_ms))
        && shard.set_end(key, Some(end_ms), now_ms);
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    let has_end = shard.peek(key, now_ms).and_then(Entry::end_ms).is_some();
    let done = has_end && shard.set_end(key, None, now_ms);
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_, '_>) -> Done {
    let now_ms = call.now_ms();
    // Rounded to the nearest second.
    end(call, |end_ms| (end_ms.saturating_sub(now_ms) + 500) / 1000)
}

pub(super) fn pttl(call: &mut Call<'_, '_>) -> Done {
    let now_ms = call.now_ms();
    end(call, |end_ms| end_ms.saturating_sub(now_ms))
}

pub(super) fn expiretime(call: &mut Call<'_, '_>) -> Done {
    end(call, |end_ms| (end_ms + 500) / 1000)
}

pub(super) fn pexpiretime(call: &mut Call<'_, '_>) -> Done {
    end(call, |end_ms| end_ms)
}

/// The end of a key: -2 where there is no key, -1 where it has none.
fn end(call: &mut Call<'_, '_>, show: impl FnOnce(u64) -> u64) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let found = call.keys.shard(key).peek(key, now_ms).map(Entry::end_ms);
    call.out.integer(match found {
        None => -2,
        Some(None) => -1,
        Some(Some(end_ms)) => show(end_ms) as i64,
    });
    Ok(())
}
