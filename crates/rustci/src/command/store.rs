//! `rustci store`.

mod credentials;
mod watch;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use valkyrie_store::{
    MemberReport, MigratingStore, MigrationConfig, MigrationPace, MigrationProgress,
    MigrationReport, MigrationStatus, Phase, RedisConfig, Store, StoreError,
};

use super::serve::{password, password_file};
use crate::args::{MigrateArgs, PairArgs, StoreCommand, StoreToolArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::job::Look;
use crate::render::table;

/// Time for an answer: who moves stores can wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does what the subcommand says.
///
/// # Errors
/// Stores that cannot be reached, and what a move refuses.
pub(crate) async fn store(args: &StoreToolArgs, out: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        StoreCommand::Migrate(args) => migrate(args, out).await,
        StoreCommand::Status(pair) => status(pair, out).await,
        StoreCommand::Watch(args) => watch::watch(args, out).await,
        StoreCommand::Credentials(command) => credentials::credentials(command, out).await,
    }
}

async fn migrate(args: &MigrateArgs, out: &mut Output) -> Result<Exit, Failure> {
    let store = open(&args.pair, args.lease_max).await?;
    let pace = MigrationPace {
        keys_per_second: args.keys_per_second,
        hold: args.hold,
        ..MigrationPace::default()
    };
    let began = Instant::now();
    let mut unread = None;
    let mut show = |progress: MigrationProgress| {
        if let Err(failure) = word(&progress, began.elapsed(), out) {
            unread = Some(failure);
        }
    };
    let report = match args.roll_back {
        true => {
            store
                .roll_back("somebody asked for it", &pace, &mut show)
                .await
        }
        false => store.migrate(args.until.phase(), &pace, &mut show).await,
    };
    store.leave().await;
    if let Some(failure) = unread {
        return Err(failure);
    }
    let report = report.map_err(refused)?;
    match out.format() {
        Format::Json => out.json(&json!({"event": "ended", "report": report_json(&report)}))?,
        Format::Text => out.text(&ended(&report, args))?,
    }
    Ok(Exit::Success)
}

/// What has happened by now.
fn word(progress: &MigrationProgress, after: Duration, out: &mut Output) -> Result<(), Failure> {
    let (event, text, more) = match progress {
        MigrationProgress::Entered(phase) => {
            let (phase, meaning) = (phase.name(), meaning(*phase));
            ("entered", format!("{phase:<11} {meaning}"), json!(phase))
        }
        MigrationProgress::Copied(keys) => ("copied", format!("  {keys} keys copied"), json!(keys)),
        MigrationProgress::Compared(keys, differing) => (
            "compared",
            format!("  {keys} keys compared, {differing} differ"),
            json!([keys, differing]),
        ),
        MigrationProgress::Repaired(key, mismatch) => (
            "repaired",
            format!(
                "  '{key}' differed ({}) and was copied again",
                mismatch.name()
            ),
            json!([key, mismatch.name()]),
        ),
        MigrationProgress::Waiting(phase) => (
            "waiting",
            "  waits until all programs are there".to_owned(),
            json!(phase.name()),
        ),
        _ => return Ok(()),
    };
    match out.format() {
        Format::Json => {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            out.json(&json!({"event": event, "after_ms": ms, "value": more}))
        }
        Format::Text => out.text(&format!("{:>7.1} s  {text}\n", after.as_secs_f64())),
    }
}

const fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Off => "the old store is used alone",
        Phase::Shadow => "changes are repeated on the new store",
        Phase::Backfill => "what was there before is copied",
        Phase::Verify => "both stores are compared",
        Phase::ReadNew => "the new store is read",
        Phase::Drain => "no leases are given until those of the old store are over",
        Phase::Switch => "changes wait",
        Phase::WriteNew => "the new store decides, and the old one is kept up",
        Phase::DrainBack => "no leases are given until those of the new store are over",
        Phase::SwitchBack => "changes wait",
        Phase::StepBack => "the old store is read again",
        Phase::Done => "the old store is not used any more",
        Phase::RolledBack => "the old store is used alone again",
        _ => "",
    }
}

fn ended(report: &MigrationReport, args: &MigrateArgs) -> String {
    let PairArgs { from, to, .. } = &args.pair;
    let what = meaning(report.state.phase);
    let next = match report.state.phase {
        Phase::Done => format!(
            "Next: programs use {to} alone, without --store-migrate-to and without\n      {from}.\n"
        ),
        Phase::RolledBack => String::new(),
        _ => "Next: the same command with --until done, or --roll-back.\n".to_owned(),
    };
    format!(
        "\nIn phase {}: {what}.\n{} keys copied, {} compared, {} differ; {} differed before.\n{next}",
        report.state.phase.name(),
        report.copied,
        report.compared,
        report.mismatched,
        report.repaired
    )
}

fn report_json(report: &MigrationReport) -> Value {
    json!({
        "phase": report.state.phase.name(),
        "revision": report.state.revision,
        "cause": report.state.cause,
        "copied": report.copied,
        "compared": report.compared,
        "mismatched": report.mismatched,
        "repaired": report.repaired,
    })
}

async fn status(pair: &PairArgs, out: &mut Output) -> Result<Exit, Failure> {
    let store = open(pair, MigrationConfig::default().lease_max).await?;
    let own = store.id().to_owned();
    let status = store.status().await;
    store.leave().await;
    let mut status = status.map_err(refused)?;
    status.members.retain(|(id, _)| *id != own);
    match out.format() {
        Format::Json => {
            let members: Vec<_> = status.members.iter().map(member_json).collect();
            out.json(&json!({
                "phase": status.state.phase.name(),
                "revision": status.state.revision,
                "cause": status.state.cause,
                "members": members,
            }))?;
        }
        Format::Text => out.text(&status_text(&status, out.look()))?,
    }
    Ok(Exit::Success)
}

fn member_json((id, member): &(String, MemberReport)) -> Value {
    let mut value = json!(member);
    if let Value::Object(fields) = &mut value {
        fields.insert("id".to_owned(), json!(id));
    }
    value
}

fn status_text(status: &MigrationStatus, look: Look) -> String {
    let phase = status.state.phase;
    let mut text = format!("{}: {}\n", phase.name(), meaning(phase));
    if !status.state.cause.is_empty() {
        text.push_str(&format!("cause: {}\n", status.state.cause));
    }
    if status.members.is_empty() {
        text.push_str("\nNo program takes part.\n");
        return text;
    }
    let head = [
        "PROGRAM", "SEEN", "BEHIND", "LOST", "COPIED", "FAILED", "COMPARED", "DIFFERED",
    ];
    let row = |(id, member): &(String, MemberReport)| {
        let seen = match member.revision >= status.state.revision {
            true => "yes",
            false => "not yet",
        };
        vec![
            id.clone(),
            seen.to_owned(),
            member.behind.to_string(),
            member.lost.to_string(),
            member.copied.to_string(),
            member.failed.to_string(),
            member.compared.to_string(),
            member.mismatched.to_string(),
        ]
    };
    let rows: Vec<_> = status.members.iter().map(row).collect();
    for line in table::table(&head, &rows, look) {
        text.push('\n');
        text.push_str(&line);
    }
    text.push('\n');
    text
}

/// Takes part in the move.
async fn open(pair: &PairArgs, lease_max: Duration) -> Result<MigratingStore, Failure> {
    let password_from = pair.password_file.as_deref().map(password_file);
    let password = password_from.as_ref().map(password).transpose()?;
    let store = |name: &str, url: &String| {
        Store::open(&RedisConfig {
            name: name.to_owned(),
            url: url.clone(),
            username: pair.user.clone(),
            password: password.clone(),
            password_from: password_from.clone(),
            connections: 4,
            connect_timeout: PATIENCE,
            timeout: PATIENCE,
            ..RedisConfig::default()
        })
    };
    let (old, new) = (store("old", &pair.from), store("new", &pair.to));
    let config = MigrationConfig {
        name: pair.name.clone(),
        lease_max,
        ..MigrationConfig::default()
    };
    let opened = MigratingStore::open(old.map_err(refused)?, new.map_err(refused)?, config).await;
    opened.map_err(refused)
}

fn refused(error: StoreError) -> Failure {
    match &error {
        StoreError::Config(_) => Failure::Usage {
            message: error.to_string(),
            hint: "write redis://HOST:PORT, valkey://HOST:PORT, yggdrasil://HOST:PORT or \
                   valkyrie+unix:///PATH"
                .to_owned(),
        },
        StoreError::Unavailable { .. } => {
            Failure::engine("a store does not answer", error.to_string())
        }
        _ => Failure::Refused {
            message: error.to_string(),
            hint: Some("`rustci store status` says how far it is".to_owned()),
        },
    }
}
