//! `rustci notify`.

use std::path::Path;

use serde_json::{Value, json};
use telemetry::logging::{LogFormat, init};
use telemetry::notify::{
    NotificationManager, NotificationMessage, NotificationSeverity, NotifyError,
};
use tracing::level_filters::LevelFilter;
use valkyrie_store::{NotificationsConfig, StoreError};

use crate::args::{NotifyArgs, NotifyCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::text::width;

/// Sends a test message.
///
/// # Errors
/// A file that cannot be used. A receiver that does not answer is a result.
pub(crate) async fn notify(args: &NotifyArgs, out: &mut Output) -> Result<Exit, Failure> {
    let NotifyCommand::Test { config } = &args.command;
    let manager = manager(config)?;
    let format = match out.format() {
        Format::Json => LogFormat::Json,
        Format::Text => LogFormat::Text,
    };
    init(format, LevelFilter::INFO).map_err(|error| Failure::engine("cannot log", error))?;
    let message = NotificationMessage::new(
        NotificationSeverity::Info,
        "RustCI test notification",
        "Somebody ran `rustci notify test`. Nothing is wrong.",
    )
    .with_tag("test");
    let results = manager.test(message).await;
    match out.format() {
        Format::Json => {
            let adapters: Vec<Value> = results.iter().map(as_json).collect();
            out.json(&json!({"adapters": adapters}))?;
        }
        Format::Text => {
            let colour = out.look().colour;
            let names = results.iter().map(|(name, _)| width(name)).max();
            let names = names.unwrap_or_default();
            let line = |(name, result): &Answered| match result {
                Ok(answer) => format!("  {} {name:<names$}  {answer}\n", colour.green("ok  ")),
                Err(error) => format!("  {} {name:<names$}  {error}\n", colour.red("FAIL")),
            };
            out.text(&results.iter().map(line).collect::<String>())?;
        }
    }
    match results.iter().all(|(_, result)| result.is_ok()) {
        true => Ok(Exit::Success),
        false => Ok(Exit::Failed),
    }
}

/// Who is notified, by a file that names at least one.
///
/// # Errors
/// What is wrong with the file or its environment.
pub(crate) fn manager(file: &Path) -> Result<NotificationManager, Failure> {
    let usage = |error: StoreError| Failure::Usage {
        message: error.to_string(),
        hint: "`rustci notify test --config FILE` says who can be reached".to_owned(),
    };
    let config = NotificationsConfig::from_file(file).map_err(usage)?;
    if config.is_empty() {
        return Err(Failure::Usage {
            message: format!("{}: no adapter is enabled", file.display()),
            hint: "write notifications: { adapters: [{ type: console, enabled: true }] }"
                .to_owned(),
        });
    }
    config
        .manager(|name| std::env::var(name).ok())
        .map_err(usage)
}

type Answered = (String, Result<String, NotifyError>);

fn as_json((name, result): &Answered) -> Value {
    match result {
        Ok(answer) => json!({"adapter": name, "ok": true, "answer": answer}),
        Err(error) => json!({"adapter": name, "ok": false, "answer": error.to_string()}),
    }
}
