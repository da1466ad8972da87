//! `rustci store watch`.

use serde_json::json;
use valkyrie_store::{Change, Event, RedisConfig, Store, StoreAdapter, StoreError, Watch};

use super::{PATIENCE, refused};
use crate::args::StoreWatchArgs;
use crate::command::serve::{password, password_file};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};

/// Shows changes of keys until somebody ends it.
///
/// # Errors
/// A store that cannot be reached or tells no changes.
pub(super) async fn watch(args: &StoreWatchArgs, out: &mut Output) -> Result<Exit, Failure> {
    let password_from = args.password_file.as_deref().map(password_file);
    let store = Store::open(&RedisConfig {
        name: "store".to_owned(),
        url: args.url.clone(),
        username: args.user.clone(),
        password: password_from.as_ref().map(password).transpose()?,
        password_from,
        connections: 1,
        connect_timeout: PATIENCE,
        timeout: PATIENCE,
        ..RedisConfig::default()
    })
    .map_err(refused)?;
    let watch = store.watch(args.prefix.as_bytes()).await;
    let mut watch = watch.map_err(told_nothing)?;
    let mut left = args.count;
    while left != Some(0) {
        let Some(event) = watch.next().await else {
            break;
        };
        show(&event, &watch, out)?;
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Success)
}

/// A store that is set to tell nothing says itself what to do.
fn told_nothing(error: StoreError) -> Failure {
    match error {
        StoreError::Config(message) => Failure::Refused {
            message,
            hint: None,
        },
        error => refused(error),
    }
}

fn show(event: &Event, watch: &Watch, out: &mut Output) -> Result<(), Failure> {
    match (event, out.format()) {
        (
            Event::Changed {
                key,
                change,
                version,
            },
            Format::Json,
        ) => out.json(&json!({
            "event": word(*change),
            "key": String::from_utf8_lossy(key),
            "version": version,
        })),
        (Event::Changed { key, change, .. }, Format::Text) => {
            let key = String::from_utf8_lossy(key);
            out.text(&format!("{:<8} {}\n", word(*change), key.escape_debug()))
        }
        (Event::Lost, Format::Json) => {
            out.json(&json!({"event": "lost", "is_live": watch.is_live()}))
        }
        (Event::Lost, Format::Text) => out.text(match watch.is_live() {
            true => "lost     changes may have been missed; they are told again\n",
            false => "lost     changes are not told now; connecting again\n",
        }),
    }
}

const fn word(change: Change) -> &'static str {
    match change {
        Change::Set => "set",
        Change::Removed => "removed",
        Change::Expired => "expired",
        Change::Evicted => "evicted",
    }
}
