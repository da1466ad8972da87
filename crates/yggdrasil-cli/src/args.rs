//! What the command line accepts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use yggdrasil::{Limit, LimitTextError};

/// Serves token buckets and keys to clients of Redis, and looks into servers.
#[derive(Debug, Parser)]
#[command(
    name = "yggdrasil",
    version,
    max_term_width = 80,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a server; Ctrl-C ends it
    Serve(Box<ServeArgs>),
    /// Show how a server is: clients, commands a second, memory, hits
    Inspect(InspectArgs),
    /// Measure how a server does from here
    Bench(BenchArgs),
    /// Show who belongs to a cluster, and change it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Have a server that keeps its keys write them down as a whole
    Snapshot(SnapshotArgs),
    /// List the commands that servers have
    Commands,
    /// Print completions for a shell, to be sourced by it
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// `yggdrasil serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address for TCP clients (may be repeated); port 0 is any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7777")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address for clients with TLS (may be repeated), besides
    #[arg(long, value_name = "HOST:PORT", requires_all = ["tls_cert", "tls_key"])]
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// PEM file with the server's certificate; SIGHUP has it and its key read again
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub(crate) tls_key: Option<PathBuf>,
    /// PEM file with the certificates of those who sign for clients; clients without one are refused
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub(crate) tls_clients: Option<PathBuf>,
    /// Socket for clients on this machine
    #[arg(long, value_name = "PATH")]
    pub(crate) unix: Option<PathBuf>,
    /// Where Valkyrie clients come to (may be repeated), such as valkyrie+unix:///run/yggdrasil.sock
    ///
    /// Over valkyrie+unix and valkyrie+shm this user and root are let in; valkyrie+tcp is for addresses
    /// of this machine. A thread serves each of them.
    #[cfg(feature = "valkyrie")]
    #[arg(long, value_name = "URL")]
    pub(crate) valkyrie: Vec<valkyrie::Endpoint>,
    /// Valkyrie threads look again for a while before they sleep: quicker answers, for a core each
    #[cfg(feature = "valkyrie")]
    #[arg(long, requires = "valkyrie")]
    pub(crate) low_latency: bool,
    /// Threads that serve [default: one a core]
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Have each thread run on one processor, as many on each NUMA node as on the others
    #[arg(long)]
    pub(crate) pin: bool,
    /// File with the password that clients have to say; its line end is left out
    #[arg(long, value_name = "FILE", env = "YGGDRASIL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// File of users, as of ACL files of Redis: lines of `user`, a name and rules
    #[arg(long, value_name = "FILE", env = "YGGDRASIL_USERS")]
    pub(crate) users: Option<PathBuf>,
    /// Let other machines in although there is no password
    #[arg(long)]
    pub(crate) unprotected: bool,
    /// Clients at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) max_clients: usize,
    /// Memory for keys and values, such as 512M [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_memory: Option<usize>,
    /// What makes room when memory is used up
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = EvictionArg::Never)]
    pub(crate) evict: EvictionArg,
    /// Longest value, such as 16M
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1M")]
    pub(crate) max_value: usize,
    /// Messages that a client may leave untaken before its connection ends, such as 64M
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "32M")]
    pub(crate) max_pushed: usize,
    /// Memory for what clients have in their caches, such as 1G
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "128M")]
    pub(crate) max_tracked: usize,
    /// Token buckets in use at the same time; each takes 24 bytes
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    pub(crate) buckets: usize,
    /// File with limits for YGG.TAKE: lines such as `user:* 100/s:400`
    #[arg(long, value_name = "FILE")]
    pub(crate) policies: Option<PathBuf>,
    /// Directory where keys are kept [default: in memory only]
    #[arg(long, value_name = "DIR", env = "YGGDRASIL_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// When a change is answered: on the disk, at most 100 ms before that, or as the system likes
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = SyncArg::Group)]
    pub(crate) sync: SyncArg,
    /// Records after which a snapshot is made, such as 1G
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M")]
    pub(crate) snapshot_after: usize,
    /// Have token buckets in snapshots, of which one is made at the end
    #[arg(long, requires = "data_dir")]
    pub(crate) keep_buckets: bool,
    /// Commands that take longer are kept in the slow log
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10ms")]
    pub(crate) slow: Duration,
    /// What each address may send.
    #[command(flatten)]
    pub(crate) flood: FloodArgs,
    /// With whom the keys are shared.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// With whom a server shares the keys.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// File with the members: `epoch 1`, and a line `node NAME HOST:PORT WEIGHT` for each
    ///
    /// All nodes begin with the same file. A node that joins later begins with the present one, without
    /// itself, and is then added by `yggdrasil cluster set`. With --data-dir a later one is kept there.
    #[arg(
        long,
        value_name = "FILE",
        env = "YGGDRASIL_CLUSTER",
        requires = "node"
    )]
    pub(crate) cluster: Option<PathBuf>,
    /// What this server is called among them
    #[arg(
        long,
        value_name = "NAME",
        env = "YGGDRASIL_NODE",
        requires = "cluster"
    )]
    pub(crate) node: Option<String>,
    /// How long a member that does not answer counts as there; the same for all
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "5s", requires = "cluster")]
    pub(crate) node_timeout: Duration,
    /// The user by which the members know each other
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        requires = "cluster"
    )]
    pub(crate) node_user: String,
    /// File with that user's password [default: that of --password-file]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) node_password_file: Option<PathBuf>,
}

/// `yggdrasil cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the members, how they are, and which part of the slots each has
    Show(AddressArgs),
    /// Print the members as a file, to be changed
    Get(AddressArgs),
    /// Give the cluster other members; keys go to whom they belong then
    ///
    /// The file has the next epoch. A node that is to go gets the weight 0 first, and is left out once
    /// nothing is on its way any more. One that is lost is just left out; what it had is lost with it.
    Set {
        /// The file; - is standard input
        file: PathBuf,
        /// Any of the servers.
        #[command(flatten)]
        server: AddressArgs,
    },
}

/// A server.
#[derive(Debug, Args)]
pub(crate) struct AddressArgs {
    /// Where the server listens: HOST:PORT, or a path for a Unix socket
    #[arg(default_value = "127.0.0.1:7777", value_name = "ADDRESS")]
    pub(crate) address: String,
    /// File with the password
    #[arg(long, value_name = "FILE", env = "YGGDRASIL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// `yggdrasil bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A server.
    #[command(flatten)]
    pub(crate) server: AddressArgs,
    /// What to measure, one after the other [default: all]
    #[arg(value_enum, value_name = "TASK")]
    pub(crate) tasks: Vec<TaskArg>,
    /// Clients, each with a connection
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) clients: u32,
    /// Requests that a client sends at once, before it waits for their answers
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pipeline: u32,
    /// Requests a second of all clients together, sent whether or not earlier ones have their answers
    ///
    /// Each is timed from when it was due, so a server that falls behind shows in all that wait.
    /// Without it a client asks again when it has its answers.
    #[arg(long, value_name = "COUNT", conflicts_with = "pipeline", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) rate: Option<u32>,
    /// How long each task takes
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Keys or buckets, of which each request chooses one
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,
    /// Bytes of a value
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    pub(crate) value_bytes: usize,
    /// How buckets fill: COUNT/s, /m or /h, and :BURST at once
    #[arg(long, value_name = "RATE", default_value = "1000/s:100", value_parser = limit)]
    pub(crate) limit: Limit,
    /// Print JSON, a line for each task
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TaskArg {
    /// Take a token of a bucket
    Consume,
    /// Store a value
    Set,
    /// Read a value
    Get,
    /// Add to a counter
    Incr,
}

fn limit(text: &str) -> Result<Limit, String> {
    text.parse()
        .map_err(|error: LimitTextError| error.to_string())
}

/// What each address may send to `yggdrasil serve`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Floods")]
pub(crate) struct FloodArgs {
    /// Drop packets of addresses that send too many, as they come in on this interface
    ///
    /// Needs root or the capabilities CAP_BPF and CAP_NET_ADMIN, and a program that was built with the
    /// feature `xdp`. Without them the server limits connections and reads of each address instead,
    /// and says so.
    #[arg(long, value_name = "IFACE")]
    pub(crate) xdp: Option<String>,
    /// Packets that one address may send: COUNT/s, /m or /h, and :BURST at once; `off` is only bans
    #[arg(long, value_name = "RATE", default_value = "1000/s:2000", value_parser = rate, requires = "xdp")]
    pub(crate) xdp_rate: Rate,
    /// Ports that it holds for, up to 16 [default: those of --listen]
    #[arg(long, value_name = "PORT", value_delimiter = ',', requires = "xdp")]
    pub(crate) xdp_ports: Vec<u16>,
    /// Where packets are looked at [default: by the driver where it can, else by the kernel]
    #[arg(long, value_enum, value_name = "WHERE", requires = "xdp")]
    pub(crate) xdp_mode: Option<ModeArg>,
    /// Addresses that get nothing through (may be repeated); YGG.BAN adds others
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', requires = "xdp")]
    pub(crate) xdp_ban: Vec<IpAddr>,
}

/// Where packets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// By the kernel, on any interface
    Skb,
    /// By the interface's driver, which is faster
    Driver,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<Limit>);

/// What makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvictionArg {
    /// Nothing: writes are refused
    Never,
    /// Keys that are used little
    AnyKey,
    /// Keys that are used little and would end anyway
    WithEnd,
}

/// When a change is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncArg {
    /// When it is on the disk
    Always,
    /// At once, and within 100 ms it is on the disk
    Group,
    /// At once, and the system decides when it is on the disk
    Os,
}

/// `yggdrasil snapshot`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// Where the server listens: HOST:PORT, or a path for a Unix socket
    #[arg(default_value = "127.0.0.1:7777", value_name = "ADDRESS")]
    pub(crate) address: String,
    /// File with the password
    #[arg(long, value_name = "FILE", env = "YGGDRASIL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// `yggdrasil inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Where the server listens: HOST:PORT, or a path for a Unix socket
    #[arg(default_value = "127.0.0.1:7777", value_name = "ADDRESS")]
    pub(crate) address: String,
    /// File with the password
    #[arg(long, value_name = "FILE", env = "YGGDRASIL_PASSWORD_FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number of bytes with an optional K, M or G.
fn size(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("'{text}' is no size; write a number with K, M or G behind it, such as 512M");
    let upper = text.to_ascii_uppercase();
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((upper.strip_suffix(unit)?, *shift)))
        .unwrap_or((&upper, 0));
    let number: usize = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    match bytes {
        0 => Err("the size is 0; name at least 1".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Reads `100/s`, `100/s:400` or `off`.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
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
        let limit = read("1000/s:2000").unwrap();
        assert_eq!((limit.emission_ns(), limit.burst()), (1_000_000, 2000));
        let limit = read("30/m").unwrap();
        assert_eq!((limit.emission_ns(), limit.burst()), (2_000_000_000, 30));
        for wrong in [
            "", "5", "5/d", "x/s", "-1/s", "5/s:", "5/s:x", "0/s", "5/s:0",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
