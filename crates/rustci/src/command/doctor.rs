//! `rustci doctor`.

use std::path::Path;

use rustci_server::inspect;
use serde_json::json;

use crate::api::view::StateView;
use crate::args::DoctorArgs;
use crate::doctor::data::Depth;
use crate::doctor::{Check, Level, data, machine, remote, worst};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::job::Look;
use crate::render::text::wrap;
use crate::server;

/// Columns of a finding before its text.
const INDENT: usize = 20;

/// Checks what the arguments name, and prints what was found.
///
/// # Errors
/// A server that is none. What is wrong with one that is there is a finding.
pub(crate) async fn doctor(args: &DoctorArgs, out: &mut Output) -> Result<Exit, Failure> {
    let target = match &args.data_dir {
        Some(_) => None,
        None => server::target(&args.server)?,
    };
    if args.digest {
        return digest(args, out).await;
    }
    let depth = if args.deep { Depth::Deep } else { Depth::Quick };
    let checks = match (&args.data_dir, target) {
        (Some(dir), _) => {
            let mut checks = data::checks(dir, depth);
            checks.extend(machine::checks());
            checks
        }
        (None, Some(target)) => remote::checks(&server::connect(&target, None)?).await,
        (None, None) => machine::checks(),
    };
    let worst = worst(&checks);
    match out.format() {
        Format::Json => out.json(&json!({"worst": worst, "checks": checks}))?,
        Format::Text => {
            let look = out.look();
            let text: String = checks.iter().map(|check| shown(check, look)).collect();
            out.text(&text)?;
        }
    }
    Ok(if worst == Level::Fail {
        Exit::Failed
    } else {
        Exit::Success
    })
}

/// One finding as lines: what, how it came out, what to do.
fn shown(check: &Check, look: Look) -> String {
    let sign = match check.level {
        Level::Ok => look.colour.green("ok  "),
        Level::Warn => look.colour.yellow("warn"),
        Level::Fail => look.colour.red("FAIL"),
    };
    let room = look.columns.saturating_sub(INDENT + 2).max(20);
    let mut lines = wrap(&check.message, room);
    let hint = check.hint.iter().filter(|hint| !hint.is_empty());
    lines.extend(hint.flat_map(|hint| wrap(&format!("-> {hint}"), room)));
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        match at {
            0 => text.push_str(&format!("  {sign} {:<14} {line}\n", check.id)),
            _ => text.push_str(&format!("{:INDENT$}  {line}\n", "")),
        }
    }
    text
}

async fn digest(args: &DoctorArgs, out: &mut Output) -> Result<Exit, Failure> {
    let state = match &args.data_dir {
        Some(dir) => of_directory(dir)?,
        None => {
            let target = server::target(&args.server)?.ok_or_else(|| Failure::Usage {
                message: "--digest is of a server".to_owned(),
                hint: "pass --server URL or --data-dir DIR".to_owned(),
            })?;
            let api = server::connect(&target, None)?;
            api.get("/api/v1/state?catalogue=true").await?
        }
    };
    match out.format() {
        Format::Json => out.json(&state)?,
        Format::Text => out.text(&format!(
            "index     {}\nstate     {}\ncatalogue {}\n",
            state.index,
            state.state_digest,
            state.catalogue_digest.unwrap_or_default()
        ))?,
    }
    Ok(Exit::Success)
}

fn of_directory(dir: &Path) -> Result<StateView, Failure> {
    let failed = |error: String| Failure::engine("cannot read the data directory", error);
    let journal = inspect::journal(dir).map_err(failed)?;
    let catalogue = inspect::catalogue(dir).map_err(failed)?;
    Ok(StateView {
        index: journal.index,
        state_digest: journal.state_digest,
        catalogue_digest: Some(catalogue.digest),
    })
}
