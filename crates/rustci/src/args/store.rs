//! Arguments about limits and where they are counted.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use valkyrie_store::Limit;

/// Where `serve` counts, and how much.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct StoreArgs {
    /// Requests that one address may send to the API: COUNT/s, /m or /h, and :BURST at once
    ///
    /// `off` is without a limit. Addresses of this machine have none.
    #[arg(long, value_name = "RATE", default_value = "100/s:400", value_parser = rate)]
    pub(crate) api_rate: Rate,
    /// A redis://, valkey:// or yggdrasil:// server where limits are counted (may be repeated)
    ///
    /// The next one is asked when one fails, and after the last one memory. Default: memory, so each
    /// server counts for itself.
    #[arg(long, value_name = "URL", env = "RUSTCI_STORE", value_delimiter = ',')]
    pub(crate) store: Vec<String>,
    /// The user at the stores
    #[arg(long, value_name = "NAME", env = "RUSTCI_STORE_USER")]
    pub(crate) store_user: Option<String>,
    /// A file with the password of the stores, which only its owner can read
    #[arg(long, value_name = "FILE", env = "RUSTCI_STORE_PASSWORD_FILE")]
    pub(crate) store_password_file: Option<PathBuf>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<Limit>);

/// Reads `100/s`, `100/s:400` or `off`.
fn rate(text: &str) -> Result<Rate, String> {
    if text == "off" {
        return Ok(Rate(None));
    }
    let wrong =
        || format!("'{text}' is no rate; write COUNT/s, /m or /h, such as 100/s:400, or off");
    let (rate, burst) = match text.split_once(':') {
        Some((rate, burst)) => (rate, Some(burst.parse().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let (count, unit) = rate.split_once('/').ok_or_else(wrong)?;
    let count: u32 = count.parse().map_err(|_| wrong())?;
    let period = match unit {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return Err(wrong()),
    };
    let limit = Limit::per(u64::from(count), period, burst.unwrap_or(count));
    limit
        .map(|limit| Rate(Some(limit)))
        .map_err(|error| format!("'{text}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let read = |text| rate(text).unwrap().0;
        assert_eq!(read("off"), None);
        let limit = read("100/s:400").unwrap();
        assert_eq!((limit.emission_ns(), limit.burst()), (10_000_000, 400));
        let limit = read("30/m").unwrap();
        assert_eq!((limit.emission_ns(), limit.burst()), (2_000_000_000, 30));
        for wrong in [
            "", "5", "5/d", "x/s", "-1/s", "5/s:", "5/s:x", "0/s", "5/s:0",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
