//! Log events of this process.

use std::{
    env,
    io::{self, IsTerminal},
    str::FromStr,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The environment variable that chooses what is logged, such as `info,valkyrie=debug`.
pub const FILTER_VARIABLE: &str = "RUSTCI_LOG";

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The caller named a format that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("log format {0:?} is unknown; use text or json")]
pub struct UnknownFormat(String);

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The environment holds a filter that cannot be read.
    #[error("{FILTER_VARIABLE} is not a filter: {0}; write for example info,valkyrie=debug")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has logging already.
    #[error("logging was set up twice")]
    Twice,
}

/// Sends events to standard error from now on: those that [`FILTER_VARIABLE`] names, else those of
/// `level` and above.
///
/// Colors are used on a terminal without `NO_COLOR`.
///
/// # Errors
/// The variable cannot be read, or logging was set up before.
pub fn init(format: LogFormat, level: LevelFilter) -> Result<(), LoggingError> {
    let filter = filter_from(env::var(FILTER_VARIABLE).ok().as_deref(), level)?;
    let colors = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colors);
    let done = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| LoggingError::Twice)
}

fn filter_from(text: Option<&str>, level: LevelFilter) -> Result<EnvFilter, LoggingError> {
    let builder = EnvFilter::builder().with_default_directive(level.into());
    Ok(builder.parse(text.unwrap_or_default())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = filter_from(Some("valkyrie=loud"), LevelFilter::INFO).unwrap_err();
        assert!(
            error.to_string().starts_with("RUSTCI_LOG is not a filter"),
            "{error}"
        );
        assert_eq!(
            filter_from(None, LevelFilter::WARN).unwrap().to_string(),
            "warn"
        );
    }

    #[test]
    fn an_unknown_format_lists_the_known_ones() {
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "log format \"xml\" is unknown; use text or json"
        );
    }
}
