//! Addresses that are not let in.

use std::net::IpAddr;

use super::{Call, Done};
use crate::failure::Failure;

/// `YGG.BAN address`: nothing of it is let in until the server ends or it is unbanned.
pub(super) fn ban(call: &mut Call<'_, '_>) -> Done {
    let source = source(call)?;
    call.shared.sources.ban(source).map_err(failure)?;
    call.out.ok();
    Ok(())
}

/// `YGG.UNBAN address`: 1 where it was banned.
pub(super) fn unban(call: &mut Call<'_, '_>) -> Done {
    let source = source(call)?;
    let was = call.shared.sources.unban(source).map_err(failure)?;
    call.out.integer(i64::from(was));
    Ok(())
}

/// `YGG.BANS`: all of them.
pub(super) fn bans(call: &mut Call<'_, '_>) -> Done {
    let bans = call.shared.sources.bans().map_err(failure)?;
    call.out.array(bans.len());
    for source in bans {
        call.out.bulk(source.to_string().as_bytes());
    }
    Ok(())
}

fn source(call: &Call<'_, '_>) -> Result<IpAddr, Failure> {
    let text = std::str::from_utf8(call.arg(1)?).ok();
    let source: Option<IpAddr> = text.and_then(|text| text.parse().ok());
    let source = source.ok_or(Failure::new("ERR the address is none, such as 192.0.2.7"))?;
    Ok(source.to_canonical())
}

fn failure(cause: String) -> Failure {
    Failure::with(format!("ERR {cause}"))
}
