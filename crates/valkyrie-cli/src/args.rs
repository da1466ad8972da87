//! What the command line accepts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use valkyrie::{Endpoint, MessageType, StreamClass};

use crate::style::ColorWhen;

/// Speaks Valkyrie by hand: looks at frames, and talks to servers.
#[derive(Debug, Parser)]
#[command(
    name = "valkyrie",
    version,
    max_term_width = 80,
    arg_required_else_help = true
)]
#[command(after_help = "An ENDPOINT is valkyrie+tcp://HOST:PORT or valkyrie+unix:///PATH.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// How to print; accepted before and after the command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print JSON; streams are one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    pub(crate) color: ColorWhen,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure how long a server takes to connect and to answer
    Ping(PingArgs),
    /// Ask how a service of a server is; exit code 0 where it serves
    Health(HealthArgs),
    /// Call a method of a server, send it a message, or open a stream
    Call(CallArgs),
    /// Start a server to try things with
    Serve(ServeArgs),
    /// Measure calls, messages, latency and bulk against `valkyrie serve`
    Bench(BenchArgs),
    /// Watch the connections of a server that offers its diagnostics
    Top(TopArgs),
    /// Explain the frames of a capture, of raw bytes or of hexadecimal
    Decode(DecodeArgs),
    /// Stand between two sides and record what they say
    Capture(CaptureArgs),
    /// Print completions for a shell, to be sourced by it
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What the input of `decode` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Told by its first bytes.
    Auto,
    /// A pcap or pcapng file.
    Capture,
    /// The bytes of one direction.
    Raw,
    /// The same as hexadecimal digits.
    Hex,
}

/// `valkyrie decode`.
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    /// The file; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// What the file is
    #[arg(long, value_enum, default_value_t = InputFormat::Auto)]
    pub(crate) format: InputFormat,
    /// One line for each frame
    #[arg(long, conflicts_with = "json")]
    pub(crate) brief: bool,
    /// Show so many bytes of bodies that have no layout
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub(crate) bytes: usize,
    /// Only frames of this connection
    #[arg(long, value_name = "NUMBER")]
    pub(crate) connection: Option<u32>,
    /// Only frames of this stream
    #[arg(long, value_name = "ID")]
    pub(crate) stream: Option<u32>,
    /// Only frames of this type, such as stream_ack (may be repeated)
    #[arg(long = "type", value_name = "TYPE", value_parser = message_type)]
    pub(crate) types: Vec<MessageType>,
}

/// `valkyrie capture`.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Where the side that connects is to connect
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) listen: Endpoint,
    /// Where the other side listens
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) to: Endpoint,
    /// The pcapng file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) write: PathBuf,
    /// Record no more than this, such as 500M; the connections go on
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub(crate) max_size: u64,
    /// End after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(crate) time: Option<Duration>,
}

/// `valkyrie ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// The server
    pub(crate) endpoint: Endpoint,
    /// End after so many PINGs; default: with Ctrl-C
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Time between two PINGs, 100ms or more
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// How long to wait for the connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `valkyrie health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// The server
    pub(crate) endpoint: Endpoint,
    /// The service, as package.Service; default: the server as a whole
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) service: String,
    /// How long to wait for the connection, and for the answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `valkyrie serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen (may be several)
    #[arg(
        value_name = "ENDPOINT",
        default_value = "valkyrie+tcp://127.0.0.1:7443"
    )]
    pub(crate) endpoints: Vec<Endpoint>,
    /// Log connections
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `valkyrie call`.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The server
    pub(crate) endpoint: Endpoint,
    /// The method, as package.Service/Method
    pub(crate) method: String,
    /// The body
    #[command(flatten)]
    pub(crate) body: BodyArgs,
    /// Send a MESSAGE, which has no answer
    #[arg(long)]
    pub(crate) message: bool,
    /// Open a stream: the body is sent on it, and what comes back is shown
    #[arg(long, conflicts_with_all = ["message", "proto"])]
    pub(crate) stream: bool,
    /// A name and its value that go with the request (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) metadata: Vec<(String, String)>,
    /// Which channel carries it: urgent and small to large and patient
    #[arg(long, value_enum, default_value_t = Class::Data)]
    pub(crate) class: Class,
    /// How long the answer may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) deadline: Duration,
    /// How long to wait for the connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// The .proto file of the service: the body is JSON, and so is the answer
    #[arg(long, value_name = "FILE")]
    pub(crate) proto: Option<PathBuf>,
    /// Where imports of the .proto file are found (may be repeated); default: beside it
    #[arg(long, value_name = "DIR", requires = "proto")]
    pub(crate) import: Vec<PathBuf>,
}

/// Where the body of a request comes from; without any of them it is empty.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct BodyArgs {
    /// The body as text
    #[arg(long, value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// The body as hexadecimal
    #[arg(long, value_name = "HEX")]
    pub(crate) hex: Option<String>,
    /// The body from a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// The values of `--class`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    /// Coordination: before the others of its weight.
    System,
    /// Jobs.
    Jobs,
    /// What has no other class.
    Data,
    /// What may wait longest.
    Logs,
}

impl From<Class> for StreamClass {
    fn from(class: Class) -> Self {
        match class {
            Class::System => Self::System,
            Class::Jobs => Self::Jobs,
            Class::Data => Self::Data,
            Class::Logs => Self::Logs,
        }
    }
}

/// `valkyrie bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// A server started with `valkyrie serve`
    pub(crate) endpoint: Endpoint,
    /// What to measure; default: everything
    #[arg(value_enum)]
    pub(crate) what: Vec<Measure>,
    /// How long each takes
    #[arg(long = "for", value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) time: Duration,
    /// Bytes of a call or message
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) size: u32,
    /// Calls that are open at once
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
    /// How long to wait for the connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// What `valkyrie bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// One call at a time.
    Latency,
    /// Many calls at once.
    Calls,
    /// Messages on one stream, one way.
    Messages,
    /// Bytes on one stream, one way.
    Bulk,
}

/// `valkyrie top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The server
    pub(crate) endpoint: Endpoint,
    /// Look once and end; so it does where standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Most connections to ask for
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Most streams of each
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) streams: u32,
    /// How long to wait for the connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// A time over zero.
fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time.is_zero() {
        true => Err("the time has to be over zero".to_owned()),
        false => Ok(time),
    }
}

/// a server answers ten PINGs a second.
fn interval(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    match time < Duration::from_millis(100) {
        true => Err("servers answer ten PINGs a second; use 100ms or more".to_owned()),
        false => Ok(time),
    }
}

fn message_type(text: &str) -> Result<MessageType, String> {
    let wanted = text.to_ascii_lowercase();
    if let Some(digits) = wanted.strip_prefix("0x") {
        let value = u8::from_str_radix(digits, 16);
        return value
            .map(MessageType)
            .map_err(|_| "write a number as 0x00 to 0xff".to_owned());
    }
    let mut known = MessageType::ALL.iter();
    let found = known.find(|kind| kind.name() == wanted).copied();
    found.ok_or_else(|| {
        "no type has this name; they are listed in chapter 4 of spec/protocol.md".to_owned()
    })
}

/// A size such as 500M: bytes with K, M or G, each 1,024 of the last.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "write a number with K, M or G behind it".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [("12", Ok(12)), ("2K", Ok(2048)), ("1G", Ok(1 << 30))] {
            assert_eq!(size(text), expected);
        }
        for text in ["", "G", "1T", "-1", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
