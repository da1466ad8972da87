//! Arguments about limits and where they are counted.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use valkyrie_store::{Limit, LimitTextError, Phase};

use super::credentials::CredentialsCommand;

/// Where `serve` counts, and how much.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct StoreArgs {
    /// Requests that one address may send to the API: COUNT/s, /m or /h, and :BURST at once
    ///
    /// `off` is without a limit. Addresses of this machine have none.
    #[arg(long, value_name = "RATE", default_value = "100/s:400", value_parser = rate)]
    pub(crate) api_rate: Rate,
    /// A redis://, valkey://, yggdrasil:// or valkyrie+unix:// server where limits are counted (may be repeated)
    ///
    /// The next one is asked when one fails, and after the last one memory. Default: memory, so each
    /// server counts for itself. Servers with the same first one also share the keys of requests
    /// (`Idempotency-Key`), which need that one, and show each other's runners.
    #[arg(long, value_name = "URL", env = "RUSTCI_STORE", value_delimiter = ',')]
    pub(crate) store: Vec<String>,
    /// A server to which the first --store is being moved by `rustci store migrate`
    ///
    /// All servers need it before the move begins and until it is done.
    #[arg(
        long,
        value_name = "URL",
        env = "RUSTCI_STORE_MIGRATE_TO",
        requires = "store"
    )]
    pub(crate) store_migrate_to: Option<String>,
    /// The user at the stores
    #[arg(long, value_name = "NAME", env = "RUSTCI_STORE_USER")]
    pub(crate) store_user: Option<String>,
    /// A file with the password of the stores, which only its owner can read
    #[arg(long, value_name = "FILE", env = "RUSTCI_STORE_PASSWORD_FILE")]
    pub(crate) store_password_file: Option<PathBuf>,
}

/// `rustci store`.
#[derive(Debug, Args)]
pub(crate) struct StoreToolArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// The commands of `rustci store`.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Move everything from one store to another while both are used
    ///
    /// All programs that use them have to know both before it begins; for `rustci serve` that is
    /// --store-migrate-to. It goes on where it was when it was ended before.
    Migrate(MigrateArgs),
    /// Show how far a move is, and what all programs that take part say
    Status(PairArgs),
    /// Show which keys change, until Ctrl-C
    ///
    /// Redis and Valkey tell that only where notify-keyspace-events is set to KA.
    Watch(StoreWatchArgs),
    /// Encrypt, check and change the passwords of valkyrie.yaml
    #[command(subcommand, arg_required_else_help = true)]
    Credentials(CredentialsCommand),
}

/// Two stores, from one of which everything moves to the other.
#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    /// The store from which everything moves: redis://, valkey:// or yggdrasil://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The store to which it moves
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// The user at both
    #[arg(long, value_name = "NAME", env = "RUSTCI_STORE_USER")]
    pub(crate) user: Option<String>,
    /// A file with the password of both, which only its owner can read
    #[arg(long, value_name = "FILE", env = "RUSTCI_STORE_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Tells moves between the same stores apart
    #[arg(long, value_name = "NAME", default_value = "stores")]
    pub(crate) name: String,
}

/// `rustci store migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Which stores.
    #[command(flatten)]
    pub(crate) pair: PairArgs,
    /// Where to stop; from every point but `done` there is a way back
    #[arg(long, value_enum, default_value_t = Until::WriteNew, value_name = "PHASE")]
    pub(crate) until: Until,
    /// Go back to the old store alone instead
    #[arg(long, conflicts_with = "until")]
    pub(crate) roll_back: bool,
    /// Keys that are copied or compared in a second at most
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys_per_second: Option<u32>,
    /// How long the new store is read before it is written
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) hold: Duration,
    /// Longest lease that programs of their own ask for; the move waits for those that are held
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) lease_max: Duration,
}

/// `rustci store watch`.
#[derive(Debug, Args)]
pub(crate) struct StoreWatchArgs {
    /// The store: redis://, valkey://, yggdrasil:// or valkyrie+unix://
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Only keys that begin with this
    #[arg(value_name = "PREFIX", default_value = "")]
    pub(crate) prefix: String,
    /// End after so many events
    #[arg(long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// The user at the store
    #[arg(long, value_name = "NAME", env = "RUSTCI_STORE_USER")]
    pub(crate) user: Option<String>,
    /// A file with the password of the store, which only its owner can read
    #[arg(long, value_name = "FILE", env = "RUSTCI_STORE_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// Where `rustci store migrate` stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Until {
    /// Changes are repeated on the new store.
    Shadow,
    /// What was there before is copied.
    Backfill,
    /// Both are equal.
    Verify,
    /// The new store is read.
    ReadNew,
    /// The new store is written, and the old one kept up.
    WriteNew,
    /// The old store is not used any more.
    Done,
}

impl Until {
    /// The phase.
    pub(crate) const fn phase(self) -> Phase {
        match self {
            Self::Shadow => Phase::Shadow,
            Self::Backfill => Phase::Backfill,
            Self::Verify => Phase::Verify,
            Self::ReadNew => Phase::ReadNew,
            Self::WriteNew => Phase::WriteNew,
            Self::Done => Phase::Done,
        }
    }
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<Limit>);

/// Reads `100/s`, `100/s:400` or `off`.
fn rate(text: &str) -> Result<Rate, String> {
    if text == "off" {
        return Ok(Rate(None));
    }
    match text.parse() {
        Ok(limit) => Ok(Rate(Some(limit))),
        Err(error @ LimitTextError::Form(_)) => Err(format!("{error}, or off")),
        Err(error) => Err(error.to_string()),
    }
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
