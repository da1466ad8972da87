//! `rustci artifacts` and `rustci cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::place::PlaceArgs;

/// `rustci artifacts`.
#[derive(Debug, Args)]
pub(crate) struct ArtifactsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub(crate) command: ArtifactsCommand,
    /// Where the runs are.
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// The subcommands of `rustci artifacts`.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactsCommand {
    /// List what a run left behind
    List {
        /// The run's number; default: the newest
        run: Option<u64>,
    },
    /// Download one artifact of a run, or all of them
    Download {
        /// The run's number
        run: u64,
        /// The artifact's name; default: all
        name: Option<String>,
        /// Where to put it: files into a directory of the artifact's name
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// As files, or as one archive
        #[arg(long, value_enum, default_value_t = DownloadFormat::Files, value_name = "FORMAT")]
        format: DownloadFormat,
    },
    /// Remove an artifact before its time
    Rm {
        /// The run's number
        run: u64,
        /// The artifact's name
        name: String,
    },
}

/// The values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DownloadFormat {
    /// The files themselves.
    Files,
    /// NAME.zip
    Zip,
    /// NAME.tar
    Tar,
}

/// `rustci cache`.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
    /// Where the runs are.
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

/// The subcommands of `rustci cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cache entries, newest first
    List,
    /// Remove cache entries
    Rm {
        /// Numbers of entries, as `rustci cache list` shows them
        #[arg(required = true, value_name = "NUMBER")]
        entries: Vec<u64>,
    },
}

/// A number of bytes: `500M`, `5G`, `1048576`; units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let unit = unit.trim_end_matches(['b', 'B']).trim_end_matches('i');
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("write a size like 500M or 5G".to_owned()),
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a size of at least one byte, like 500M or 5G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("5G"), Ok(5 << 30));
        assert_eq!(size("500MiB"), Ok(500 << 20));
        assert_eq!(size("12"), Ok(12));
        for text in ["", "G", "0", "5X", "-1", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
