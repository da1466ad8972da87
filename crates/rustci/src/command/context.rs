//! `rustci context`.

use std::io::{IsTerminal, Read, stdin};
use std::path::Path;

use serde_json::json;

use crate::api::client::check_url;
use crate::args::{ContextCommand, ServerArgs};
use crate::context::{Context, Contexts, LOCAL, check_name, file};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::table;
use crate::server::{self, Why};

/// Longest token that is read.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Does what the subcommand says.
///
/// # Errors
/// Names and URLs that are none, an unknown context, a configuration that cannot be used.
pub(crate) fn context(command: &ContextCommand, out: &mut Output) -> Result<Exit, Failure> {
    match command {
        ContextCommand::Add {
            name,
            server,
            token_file,
            no_token,
        } => {
            check_name(name)?;
            check_url(server)?;
            let token = match no_token {
                true => None,
                false => token(token_file.as_deref())?,
            };
            add(name, server, token, out)
        }
        ContextCommand::Use { name } => choose(name, out),
        ContextCommand::List => list(out),
        ContextCommand::Show => show(out),
        ContextCommand::Rm { name } => remove(name, out),
    }?;
    Ok(Exit::Success)
}

fn add(name: &str, url: &str, token: Option<String>, out: &mut Output) -> Result<(), Failure> {
    let context = Context {
        server: url.to_owned(),
        token,
    };
    let has_token = context.token.is_some();
    Contexts::edit(|contexts| {
        contexts.contexts.insert(name.to_owned(), context);
        Ok(())
    })?;
    match out.format() {
        Format::Json => out.json(&json!({"name": name, "server": url, "token": has_token})),
        Format::Text => {
            let with = if has_token { "with" } else { "without" };
            out.text(&format!(
                "{name} is {url}, {with} a token; `rustci context use {name}` makes it the default\n"
            ))
        }
    }
}

/// The token in a file or on standard input; none when that is a terminal or empty.
fn token(path: Option<&Path>) -> Result<Option<String>, Failure> {
    let mut text = String::new();
    match path {
        Some(path) => {
            let reading = || format!("read {}", path.display());
            let file = std::fs::File::open(path).map_err(Failure::io(reading()))?;
            let read = file.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
            read.map_err(Failure::io(reading()))?;
        }
        None if stdin().is_terminal() => return Ok(None),
        None => {
            let read = stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
            read.map_err(Failure::io("read the token from standard input"))?;
        }
    }
    let token = text.trim();
    if token.contains(char::is_whitespace) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Usage {
            message: "what was read is not a token".to_owned(),
            hint: "it is the one line in the file `token` of the server's data directory"
                .to_owned(),
        });
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}

fn choose(name: &str, out: &mut Output) -> Result<(), Failure> {
    Contexts::edit(|contexts| {
        contexts.current = match name {
            LOCAL => None,
            name => {
                contexts.get(name)?;
                Some(name.to_owned())
            }
        };
        Ok(())
    })?;
    match out.format() {
        Format::Json => out.json(&json!({"current": name})),
        Format::Text if name == LOCAL => out.text("commands now run on this machine\n"),
        Format::Text => out.text(&format!("commands now go to {name}\n")),
    }
}

fn list(out: &mut Output) -> Result<(), Failure> {
    let contexts = Contexts::load()?;
    let current = contexts.current.as_deref().unwrap_or(LOCAL);
    if out.format() == Format::Json {
        let rows = contexts.contexts.iter().map(|(name, context)| {
            json!({"name": name, "server": context.server, "token": context.token.is_some()})
        });
        return out.json(&json!({"current": current, "contexts": rows.collect::<Vec<_>>()}));
    }
    let mark = |name: &str| if name == current { "*" } else { "" }.to_owned();
    let mut rows = vec![vec![
        mark(LOCAL),
        LOCAL.to_owned(),
        "this machine".to_owned(),
    ]];
    rows.extend(
        contexts
            .contexts
            .iter()
            .map(|(name, context)| vec![mark(name), name.clone(), context.server.clone()]),
    );
    let lines = table::table(&["", "NAME", "SERVER"], &rows, out.look());
    out.text(&(lines.join("\n") + "\n"))
}

fn show(out: &mut Output) -> Result<(), Failure> {
    let target = server::target(&ServerArgs::default())?;
    let (name, why) = match target.as_ref().map(|target| &target.why) {
        None => (LOCAL, "nothing says otherwise"),
        Some(Why::Option | Why::ContextOption(_)) => (LOCAL, "an option"),
        Some(Why::Variable) => ("", "RUSTCI_SERVER"),
        Some(Why::ContextVariable(name)) => (name.as_str(), "RUSTCI_CONTEXT"),
        Some(Why::Current(name)) => (name.as_str(), "rustci context use"),
    };
    let url = target.as_ref().map(|target| target.url.as_str());
    let path = file().map(|path| path.display().to_string());
    match out.format() {
        Format::Json => out.json(&json!({
            "name": name, "server": url, "because": why, "file": path,
        })),
        Format::Text => out.text(&format!(
            "{}, because of: {why}\nfile: {}\n",
            match (name, url) {
                ("", Some(url)) => url.to_owned(),
                (name, Some(url)) => format!("{name} ({url})"),
                (_, None) => "this machine".to_owned(),
            },
            path.unwrap_or_default()
        )),
    }
}

fn remove(name: &str, out: &mut Output) -> Result<(), Failure> {
    Contexts::edit(|contexts| {
        contexts.get(name)?;
        contexts.contexts.remove(name);
        contexts.current.take_if(|current| current == name);
        Ok(())
    })?;
    match out.format() {
        Format::Json => out.json(&json!({"removed": name})),
        Format::Text => out.text(&format!("{name} is forgotten\n")),
    }
}
