//! What the command line accepts.

pub(crate) mod backup;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod data;
pub(crate) mod doctor;
pub(crate) mod filter;
pub(crate) mod notify;
pub(crate) mod pipelines;
mod place;
pub(crate) mod queue;
pub(crate) mod reports;
pub(crate) mod secrets;
pub(crate) mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rustci_server::api::view::Priority;

pub(crate) use backup::{BackupArgs, BackupCommand, RestoreArgs};
pub(crate) use context::ContextCommand;
pub(crate) use credentials::CredentialsCommand;
pub(crate) use data::{ArtifactsArgs, ArtifactsCommand, CacheArgs, CacheCommand, DownloadFormat};
pub(crate) use doctor::DoctorArgs;
pub(crate) use filter::FilterArgs;
pub(crate) use notify::{NotifyArgs, NotifyCommand};
pub(crate) use pipelines::{PipelinesArgs, PipelinesCommand};
pub(crate) use place::{PlaceArgs, ServerArgs};
pub(crate) use queue::{ExplainArgs, QueueArgs, QueueCommand, RunnersArgs, RunnersCommand};
pub(crate) use reports::TestsArgs;
pub(crate) use secrets::{SecretsArgs, SecretsCommand};
pub(crate) use store::{MigrateArgs, PairArgs, StoreCommand, StoreToolArgs, StoreWatchArgs};

/// Runs CI pipelines: here, or on a server with runners.
#[derive(Debug, Parser)]
#[command(
    name = "rustci",
    version,
    max_term_width = 80,
    arg_required_else_help = true
)]
#[command(after_help = "Start with `rustci run` in a directory that has a .rustci.yaml.")]
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

/// The values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a project's pipeline on this machine, or on a server with --server
    Run(Box<RunArgs>),
    /// Check pipeline files
    Lint(LintArgs),
    /// Show what a pipeline would run
    Plan(PlanArgs),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
    /// Start the control plane
    Serve(ServeArgs),
    /// Start a runner and connect it to a control plane
    Runner(RunnerArgs),
    /// List, view, watch, cancel, approve and repeat runs
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Runs(RunsArgs),
    /// Show the tests of a run, or how tests come out over time
    Tests(TestsArgs),
    /// List, download and remove what runs left behind
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Artifacts(ArtifactsArgs),
    /// List and remove cache entries
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Cache(CacheArgs),
    /// List, set and remove secrets
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Secrets(SecretsArgs),
    /// Write everything a server keeps into a file, or verify such a file
    #[command(arg_required_else_help = true)]
    Backup(BackupArgs),
    /// Make a data directory of a backup
    Restore(RestoreArgs),
    /// Say why jobs wait or ended, and when they will be done
    Explain(ExplainArgs),
    /// Show, pause and resume the queue; set what projects may have
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Queue(QueueArgs),
    /// List, drain and forget runners
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Runners(RunnersArgs),
    /// Register pipelines on a server, and start them
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Pipelines(PipelinesArgs),
    /// Move stores to other servers, and look after their passwords
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Store(StoreToolArgs),
    /// Remember servers, and choose one
    #[command(subcommand, arg_required_else_help = true)]
    Context(ContextCommand),
    /// Check this machine, a server, or a data directory, and say what to do
    Doctor(DoctorArgs),
    /// Check who is told when something breaks
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Notify(NotifyArgs),
    /// Print completions for a shell, to be sourced by it
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the HTTP API as an OpenAPI document
    #[command(name = "openapi")]
    OpenApi,
    /// The process that runs one job.
    #[command(name = "__job", hide = true)]
    Job {
        /// The job's directory.
        dir: PathBuf,
    },
}

/// How soon a run gets runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunPriority {
    /// After what is normal, for an hour at most.
    Low,
    /// In its turn.
    Normal,
    /// Before what is normal and at most an hour older.
    High,
    /// Before everything else of a day.
    Critical,
}

impl From<RunPriority> for Priority {
    fn from(priority: RunPriority) -> Self {
        match priority {
            RunPriority::Low => Self::Low,
            RunPriority::Normal => Self::Normal,
            RunPriority::High => Self::High,
            RunPriority::Critical => Self::Critical,
        }
    }
}

/// `rustci run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The project, or a pipeline file in it
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Run this pipeline file only
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The event to run for: manual, push, pull_request, tag, cron, or a JSON file with one
    #[arg(long, value_name = "NAME|FILE", default_value = "manual")]
    pub(crate) event: String,
    /// Run only this job and the jobs it needs (may be repeated)
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Vec<String>,
    /// Show what would run and which secrets it needs, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A label of the runner here, which `runs-on` may ask for (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// An input of the manual event (may be repeated)
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) inputs: Vec<(String, String)>,
    /// A file of NAME=VALUE lines with the secrets the pipeline asks for
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_file: Option<PathBuf>,
    /// How soon it gets runners, compared with other runs of the project
    #[arg(long, value_enum, default_value_t = RunPriority::Normal, value_name = "PRIORITY")]
    pub(crate) priority: RunPriority,
    /// An environment variable for every job (may be repeated)
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Where runs and logs are kept
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Approve this job or environment when it asks, or `all` (may be repeated)
    #[arg(long, value_name = "JOB")]
    pub(crate) approve: Vec<String>,
    /// Keep the workspaces of the jobs
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where to run it instead of here.
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `rustci lint`.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Pipeline files, projects, or directories of projects
    #[arg(default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Let warnings fail the check too
    #[arg(long, alias = "strict")]
    pub(crate) deny_warnings: bool,
    /// Print all findings as SARIF 2.1.0
    #[arg(long, conflicts_with = "json")]
    pub(crate) sarif: bool,
}

/// `rustci plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The project, or a pipeline file in it
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// Plan this pipeline file only
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How durable a change is before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncMode {
    /// Every change has its own sync.
    Always,
    /// Changes that arrive during a sync share the next one.
    Group,
    /// The operating system decides; a power cut may lose the last changes.
    Os,
}

/// `rustci serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the HTTP API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub(crate) http: String,
    /// Where jobs find the API; default: the address of --http
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// Where runners connect (may be repeated)
    ///
    /// Default: valkyrie+tcp://127.0.0.1:7443 and rustci.sock in the data directory.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) valkyrie: Vec<String>,
    /// Journal, logs, blobs, catalogue and token
    #[arg(long, value_name = "DIR", env = "RUSTCI_DATA")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A file of NAME=VALUE lines with the secrets pipelines may ask for
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_file: Option<PathBuf>,
    /// The key of the stored secrets; default: secrets.key in the data directory
    ///
    /// The systemd credential rustci-secrets-key is used when there is one.
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_key_file: Option<PathBuf>,
    /// How long a runner may be silent before its job starts elsewhere
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub(crate) lease: std::time::Duration,
    /// Largest artifact, such as 500M or 5G
    #[arg(long, value_name = "SIZE", default_value = "5G", value_parser = data::size)]
    pub(crate) artifact_max: u64,
    /// What the caches of one project may have together; the oldest go first
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = data::size)]
    pub(crate) cache_max: u64,
    /// How often a job starts anew because its runner was lost
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub(crate) requeues: u32,
    /// Remove runs and their logs so many days after their end; default: never
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_runs: Option<u32>,
    /// A YAML file with the section `notifications`: who is told of failed runs, lost runners and stores
    #[arg(long, value_name = "FILE", env = "RUSTCI_NOTIFY")]
    pub(crate) notify: Option<PathBuf>,
    /// When a change counts as stored
    #[arg(long, value_enum, default_value_t = SyncMode::Group)]
    pub(crate) sync: SyncMode,
    /// How often clients may ask, and where that is counted.
    #[command(flatten)]
    pub(crate) limits: store::StoreArgs,
}

/// `rustci runner`.
#[derive(Debug, Args)]
pub(crate) struct RunnerArgs {
    /// The control plane, such as valkyrie+tcp://127.0.0.1:7443
    #[arg(long, value_name = "ENDPOINT", env = "RUSTCI_CONNECT")]
    pub(crate) connect: String,
    /// A name no other runner has; default: the host's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label that `runs-on` may ask for (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Jobs at once; default: the number of processors
    #[arg(long)]
    pub(crate) capacity: Option<u32>,
    /// Log spools and workspaces
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// `rustci runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
    /// Where they are.
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// The commands of `rustci runs`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first
    List {
        /// How many, at most 200
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        /// Which ones.
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Show one run: its jobs, steps and why anything failed or waits
    View {
        /// The run's number; default: the newest
        run: Option<u64>,
    },
    /// Follow a run until it ends, and exit with its code
    Watch {
        /// The run's number; default: the newest
        run: Option<u64>,
    },
    /// Print logs
    Logs {
        /// The run's number, or nothing for the newest
        run: Option<u64>,
        /// One job; default: all, one after another
        job: Option<String>,
        /// Go on until the run ends
        #[arg(short, long)]
        follow: bool,
        /// Only jobs that failed
        #[arg(long)]
        failed: bool,
        /// An earlier attempt of the job
        #[arg(long, requires = "job", value_name = "NUMBER")]
        attempt: Option<u32>,
    },
    /// Print what the steps of a run wrote for people
    Summary {
        /// The run's number; default: the newest
        run: Option<u64>,
    },
    /// Cancel a run, or all runs that are not over and have what is named
    Cancel {
        /// The run's number
        run: Option<u64>,
        /// Which ones, without a number.
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Let a job run that waits for an approval
    Approve(AnswerArgs),
    /// End a job that waits for an approval as declined
    Decline(AnswerArgs),
    /// Run a run's jobs again, as a new run
    Rerun(RerunArgs),
}

/// `rustci runs approve` and `rustci runs decline`.
#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The run's number
    pub(crate) run: u64,
    /// The job; default: the only one that asks
    pub(crate) job: Option<String>,
    /// What you have to say about it
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
}

/// `rustci runs rerun`.
#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// The run's number
    pub(crate) run: u64,
    /// Only jobs that did not succeed, and those that need them
    #[arg(long, conflicts_with = "job")]
    pub(crate) failed: bool,
    /// Only this job, and those that need it (may be repeated)
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Vec<String>,
    /// Follow the new run until it ends; runs on this machine always are
    #[arg(long)]
    pub(crate) watch: bool,
    /// A file of NAME=VALUE lines with the secrets of a run on this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) secrets_file: Option<PathBuf>,
    /// A label for the runner of a run on this machine (may be repeated)
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
}

/// Splits `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Splits `NAME=VALUE`, with a name that a variable can have.
fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if !rustci_pipeline::is_variable_name(name) {
        return Err(format!(
            "`{name}` is not the name of a variable: use letters, digits and `_`, and no digit first"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pair_needs_a_key_and_may_have_no_value() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("A="), Ok(("A".to_owned(), String::new())));
        assert!(pair("=b").is_err());
        assert!(pair("A").is_err());
        assert_eq!(
            variable("A_1=b=c"),
            Ok(("A_1".to_owned(), "b=c".to_owned()))
        );
        for wrong in ["A B=1", "1A=1", "A-B=1", "=1", "A", "ä=1"] {
            assert!(variable(wrong).is_err(), "{wrong}");
        }
    }
}
