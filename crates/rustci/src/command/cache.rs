//! `rustci cache`.

use serde_json::json;

use super::watch::now_ms;
use crate::api::client::{Api, encoded};
use crate::api::view::{CacheList, CacheView};
use crate::args::{CacheArgs, CacheCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::data as render;
use crate::server::{Changeable, changeable, places};

/// Does what the subcommand says.
///
/// # Errors
/// An unknown entry, or a place that cannot be asked.
pub(crate) async fn cache(args: &CacheArgs, out: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        CacheCommand::List => {
            let places = places(&args.place).await?;
            let place = places.first().ok_or_else(|| Failure::NoRuns {
                place: "here".to_owned(),
                server: String::new(),
            })?;
            list(&place.api, place.project.as_deref(), out).await?;
        }
        CacheCommand::Rm { entries } => {
            let place = changeable(&args.place).await?;
            for entry in entries {
                remove(&place, *entry, out).await?;
            }
        }
    }
    Ok(Exit::Success)
}

async fn all(api: &Api, project: Option<&str>) -> Result<Vec<CacheView>, Failure> {
    let project = project.map_or(String::new(), |name| format!("&project={}", encoded(name)));
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/caches?limit=200{project}{after}");
        let page: CacheList = api.get(&path).await?;
        all.extend(page.caches);
        match page.next {
            Some(next) => after = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}

async fn list(api: &Api, project: Option<&str>, out: &mut Output) -> Result<(), Failure> {
    let caches = all(api, project).await?;
    match (out.format(), caches.as_slice()) {
        (Format::Json, _) => out.json(&CacheList { caches, next: None }),
        (Format::Text, []) => out.text("no cache entries\n"),
        (Format::Text, all) => out.text(&render::caches(all, out.look(), now_ms())),
    }
}

async fn remove(place: &Changeable, entry: u64, out: &mut Output) -> Result<(), Failure> {
    let (api, arguments) = (place.api(), place.arguments());
    if !api.delete(&format!("/api/v1/caches/{entry}")).await? {
        return Err(Failure::Usage {
            message: format!("there is no cache entry {entry}"),
            hint: format!("`rustci cache list{arguments}` shows their numbers"),
        });
    }
    match out.format() {
        Format::Json => out.json(&json!({"entry": entry, "removed": true})),
        Format::Text => out.text(&format!("cache entry {entry} is removed\n")),
    }
}
