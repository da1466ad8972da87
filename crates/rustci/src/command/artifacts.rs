//! `rustci artifacts`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use rustci_content::archive::{Unpacked, unpack_tar};
use rustci_content::limits::ENTRIES_MAX;
use rustci_content::{Root, TreeLimits};
use serde_json::json;
use tokio::sync::mpsc;

use super::runs::find;
use super::watch::now_ms;
use crate::api::client::Api;
use crate::api::view::{ArtifactList, ArtifactView};
use crate::args::{ArtifactsArgs, ArtifactsCommand, DownloadFormat};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::data as render;
use crate::server::{changeable, places};

/// Pieces of a body that wait for the disk.
const PIECES_WAITING: usize = 16;

/// Does what the subcommand says.
///
/// # Errors
/// An unknown run or artifact, or a place that cannot be asked.
pub(crate) async fn artifacts(args: &ArtifactsArgs, out: &mut Output) -> Result<Exit, Failure> {
    match &args.command {
        ArtifactsCommand::Rm { run, name } => {
            let place = changeable(&args.place).await?;
            remove(place.api(), *run, name, out).await?;
            return Ok(Exit::Success);
        }
        ArtifactsCommand::List { run } => {
            let places = places(&args.place).await?;
            let place = places.first().ok_or_else(nothing)?;
            let run = find(place, *run).await?.id;
            list(&place.api, run, out).await?;
        }
        ArtifactsCommand::Download {
            run,
            name,
            out: dir,
            format,
        } => {
            let places = places(&args.place).await?;
            let place = places.first().ok_or_else(nothing)?;
            let run = find(place, Some(*run)).await?.id;
            let wanted = wanted(&place.api, run, name.as_deref()).await?;
            download(&place.api, &wanted, (dir, *format), out).await?;
        }
    }
    Ok(Exit::Success)
}

fn nothing() -> Failure {
    Failure::NoRuns {
        place: "here".to_owned(),
        server: String::new(),
    }
}

async fn all(api: &Api, run: u64) -> Result<Vec<ArtifactView>, Failure> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/runs/{run}/artifacts?limit=200{after}");
        let page: ArtifactList = api.get(&path).await?;
        all.extend(page.artifacts);
        match page.next {
            Some(next) => after = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}

async fn list(api: &Api, run: u64, out: &mut Output) -> Result<(), Failure> {
    let artifacts = all(api, run).await?;
    match (out.format(), artifacts.as_slice()) {
        (Format::Json, _) => out.json(&ArtifactList {
            artifacts,
            next: None,
        }),
        (Format::Text, []) => out.text(&format!("run {run} has no artifacts\n")),
        (Format::Text, all) => out.text(&render::artifacts(all, out.look(), now_ms())),
    }
}

/// The artifact with this name, or all of a run.
async fn wanted(api: &Api, run: u64, name: Option<&str>) -> Result<Vec<ArtifactView>, Failure> {
    let all = all(api, run).await?;
    let known: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
    let wanted: Vec<ArtifactView> = all
        .into_iter()
        .filter(|one| name.is_none_or(|name| one.name == name))
        .collect();
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let what = name.map_or("artifacts".to_owned(), |name| format!("artifact `{name}`"));
    Err(Failure::Usage {
        message: format!("run {run} has no {what}"),
        hint: match known.as_slice() {
            [] => "it left none behind, or they have expired".to_owned(),
            known => format!("it has {}", known.join(", ")),
        },
    })
}

async fn download(
    api: &Api,
    wanted: &[ArtifactView],
    to: (&Path, DownloadFormat),
    out: &mut Output,
) -> Result<(), Failure> {
    let (dir, format) = to;
    fs::create_dir_all(dir).map_err(Failure::io(format!("make {}", dir.display())))?;
    let mut done = Vec::new();
    for artifact in wanted {
        let place = dir.join(file_name(artifact, format));
        match format {
            DownloadFormat::Files => unpack(api, artifact, &place).await?,
            DownloadFormat::Zip => save(api, artifact, "zip", &place).await?,
            DownloadFormat::Tar => save(api, artifact, "tar", &place).await?,
        }
        if out.format() == Format::Text {
            out.text(&render::downloaded(artifact, &place))?;
        }
        let (files, bytes) = (artifact.files, artifact.bytes);
        let (name, path) = (&artifact.name, &place);
        done.push(json!({"name": name, "path": path, "files": files, "bytes": bytes}));
    }
    match out.format() {
        Format::Json => out.json(&json!({"artifacts": done})),
        Format::Text => Ok(()),
    }
}

/// A name that stays in the directory it is put into, whatever the server says.
fn file_name(artifact: &ArtifactView, format: DownloadFormat) -> String {
    let plain = |c: char| match c {
        '/' | '\\' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = artifact.name.chars().map(plain).collect();
    let name = match name.trim_start_matches('.') {
        "" => format!("artifact-{}", artifact.id),
        _ if name.starts_with("..") => name.replacen("..", "_", 1),
        _ => name,
    };
    match format {
        DownloadFormat::Files => name,
        DownloadFormat::Zip => format!("{name}.zip"),
        DownloadFormat::Tar => format!("{name}.tar"),
    }
}

/// Saves an archive under its name once all of it has come.
async fn save(
    api: &Api,
    artifact: &ArtifactView,
    format: &str,
    place: &Path,
) -> Result<(), Failure> {
    let path = format!("/api/v1/artifacts/{}/archive?format={format}", artifact.id);
    let body = api.stream(&path).await?;
    let mut part = place.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let doing = format!("write {}", place.display());
    let file = File::create(&part).map_err(Failure::io(doing.clone()))?;
    let written = write_all(body, file, api).await;
    if let Err(failure) = written {
        let _ = fs::remove_file(&part);
        return Err(failure);
    }
    fs::rename(&part, place).map_err(Failure::io(doing))
}

async fn write_all(mut body: Body, mut file: File, api: &Api) -> Result<(), Failure> {
    while let Some(bytes) = next(&mut body, api).await? {
        file.write_all(&bytes)
            .map_err(Failure::io("write the archive"))?;
    }
    Ok(())
}

async fn next(body: &mut Body, api: &Api) -> Result<Option<Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Interrupted {
            server: api.place().to_owned(),
            arguments: api.arguments().to_owned(),
            cause: error.to_string(),
        })?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Unpacks an artifact while it comes. The archive is trusted no more than any other.
async fn unpack(api: &Api, artifact: &ArtifactView, place: &Path) -> Result<(), Failure> {
    let path = format!("/api/v1/artifacts/{}/archive?format=tar", artifact.id);
    let mut body = api.stream(&path).await?;
    let (pieces, arrived) = mpsc::channel(PIECES_WAITING);
    let limits = TreeLimits {
        bytes: artifact.bytes,
        entries: ENTRIES_MAX,
    };
    let to = place.to_owned();
    let work = tokio::task::spawn_blocking(move || unpack_to(&to, limits, arrived));
    while let Some(bytes) = next(&mut body, api).await? {
        if pieces.send(bytes).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let unpacked = work.await.map_err(io::Error::other).flatten();
    let unpacked = unpacked.map_err(Failure::io(format!("unpack into {}", place.display())))?;
    if (unpacked.files, unpacked.bytes) == (artifact.files, artifact.bytes) {
        return Ok(());
    }
    Err(Failure::BadAnswer {
        server: api.place().to_owned(),
        cause: format!(
            "artifact `{}` came with {} of {} files",
            artifact.name, unpacked.files, artifact.files
        ),
    })
}

fn unpack_to(
    place: &Path,
    limits: TreeLimits,
    arrived: mpsc::Receiver<Bytes>,
) -> io::Result<Unpacked> {
    fs::create_dir_all(place)?;
    let root = Root::open(place)?;
    let archive = Pieces {
        arrived,
        now: Bytes::new(),
    };
    unpack_tar(archive, &root, limits).map_err(io::Error::other)
}

/// A body for a thread that reads.
struct Pieces {
    arrived: mpsc::Receiver<Bytes>,
    now: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.arrived.blocking_recv() {
                Some(bytes) => self.now = bytes,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.now.len());
        let piece = self.now.split_to(count);
        out.get_mut(..count)
            .unwrap_or_default()
            .copy_from_slice(&piece);
        Ok(count)
    }
}

async fn remove(api: &Api, run: u64, name: &str, out: &mut Output) -> Result<(), Failure> {
    let wanted = wanted(api, run, Some(name)).await?;
    for artifact in &wanted {
        api.delete(&format!("/api/v1/artifacts/{}", artifact.id))
            .await?;
    }
    match out.format() {
        Format::Json => out.json(&json!({"run": run, "name": name, "removed": true})),
        Format::Text => out.text(&format!("artifact {name} of run {run} is removed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_server_stays_in_the_directory() {
        let check = |name: &str, expected: &str| {
            let artifact = ArtifactView {
                id: 7,
                run: 1,
                job: String::new(),
                attempt: 1,
                name: name.to_owned(),
                digest: String::new(),
                files: 0,
                bytes: 0,
                stored_bytes: 0,
                created_ms: 0,
                expires_ms: 0,
            };
            assert_eq!(file_name(&artifact, DownloadFormat::Zip), expected);
        };
        check("app", "app.zip");
        check("../../etc/passwd", "__.._etc_passwd.zip");
        check("..", "artifact-7.zip");
        check("a/b\\c\u{1b}", "a_b_c_.zip");
    }
}
