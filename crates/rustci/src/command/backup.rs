//! `rustci backup` and `rustci restore`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::BodyExt;
use rustci_server::backup::{self, BackupError, Manifest};
use rustci_server::secrets::{KeyPlace, Order, SecretStore, SecretsSource};
use rustci_server::{Server, ServerConfig};
use serde_json::json;

use super::serve::not_started;
use crate::api::client::Api;
use crate::args::{BackupArgs, BackupCommand, RestoreArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::render::summary::shell_word;
use crate::server;

/// Makes a backup, or verifies one.
///
/// # Errors
/// A file that is there, a server that cannot be asked, a backup that is none, a full disk. No file
/// is left behind then.
pub(crate) async fn backup(args: &BackupArgs, out: &mut Output) -> Result<Exit, Failure> {
    if let Some(BackupCommand::Verify { file }) = &args.command {
        let manifest = backup::verify(file).map_err(refused)?;
        return tell("the backup is whole", &manifest, file, out);
    }
    let file = args.file.as_deref().unwrap_or(Path::new(""));
    if file.exists() && !args.force {
        return Err(Failure::Usage {
            message: format!("{} is there already", file.display()),
            hint: "choose another name, or replace it with --force".to_owned(),
        });
    }
    let manifest = match &args.data_dir {
        Some(dir) => of_directory(dir, args, file).await?,
        None => {
            let target = server::target(&args.server)?.ok_or_else(|| Failure::Usage {
                message: "no server is named".to_owned(),
                hint:
                    "pass --server URL for one that runs, or --data-dir DIR for one that does not"
                        .to_owned(),
            })?;
            download(&server::connect(&target, None)?, args, file).await?
        }
    };
    tell("backup written", &manifest, file, out)
}

/// Makes a data directory of a backup.
///
/// # Errors
/// A backup that is none or damaged, a directory that is not empty, a full disk. Nothing is left
/// behind then.
pub(crate) fn restore(args: &RestoreArgs, out: &mut Output) -> Result<Exit, Failure> {
    let manifest = backup::restore(&args.file, &args.data_dir).map_err(refused)?;
    let exit = tell("restored", &manifest, &args.data_dir, out)?;
    if out.format() == Format::Text {
        let dir = shell_word(&args.data_dir.to_string_lossy());
        let key = match has_secrets(&manifest) && !manifest.with_keys {
            true => "  secrets   put their key back into secrets.key before the start\n",
            false => "",
        };
        out.text(&format!("{key}  next      rustci serve --data-dir {dir}\n"))?;
    }
    Ok(exit)
}

fn has_secrets(manifest: &Manifest) -> bool {
    manifest
        .files
        .iter()
        .any(|file| file.path.starts_with("secrets/"))
}

/// Starts a server on the directory, for nobody but this command.
async fn of_directory(dir: &Path, args: &BackupArgs, file: &Path) -> Result<Manifest, Failure> {
    if !dir.join("journal").is_dir() {
        return Err(Failure::Usage {
            message: format!("{} is no data directory", dir.display()),
            hint: "name the directory that `rustci serve` prints as `data`".to_owned(),
        });
    }
    // The secrets are copied as they lie there, so their key is not needed. This store is empty.
    let nowhere = dir.join("no-secrets");
    let store = SecretStore::open(&nowhere, KeyPlace::Own(nowhere.join("key")));
    let store = store.map_err(|error| Failure::engine("cannot open the secrets", error))?;
    let config = ServerConfig {
        secrets: SecretsSource::default().with_store(Arc::new(store), Order::StoreFirst),
        ..ServerConfig::new(dir.to_owned())
    };
    let server = Server::start(config).map_err(not_started)?;
    let token = server.token().expose();
    let api = Api::in_process(server.router(), Some(token), dir.display().to_string());
    let done = download(&api, args, file).await;
    server.shutdown();
    done
}

/// Fetches a backup, checks it, and gives it its name.
async fn download(api: &Api, args: &BackupArgs, file: &Path) -> Result<Manifest, Failure> {
    let path = format!("/api/v1/backup?keys={}", args.with_keys);
    let mut body = api.stream(&path).await?;
    let part = Part::create(file)?;
    let mut target = &part.file;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::ServerError {
            server: api.place().to_owned(),
            message: format!("the backup broke off: {error}"),
            hint: Some("the server's log says why".to_owned()),
        })?;
        if let Some(bytes) = frame.data_ref() {
            let written = target.write_all(bytes);
            written.map_err(Failure::io(format!("write {}", part.path.display())))?;
        }
    }
    let manifest = backup::verify(&part.path).map_err(refused)?;
    part.finish(file)?;
    Ok(manifest)
}

/// A file that is being written; removed unless it gets its name.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(file: &Path) -> Result<Self, Failure> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = file.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path);
        let file = file.map_err(Failure::io(format!("create {}", path.display())))?;
        Ok(Self { path, file })
    }

    fn finish(self, name: &Path) -> Result<(), Failure> {
        let saving = || format!("save {}", name.display());
        self.file.sync_all().map_err(Failure::io(saving()))?;
        fs::rename(&self.path, name).map_err(Failure::io(saving()))?;
        let dir = name.parent().filter(|dir| !dir.as_os_str().is_empty());
        let synced = File::open(dir.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
        synced.map_err(Failure::io(saving()))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After the rename there is nothing left under this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn tell(what: &str, manifest: &Manifest, place: &Path, out: &mut Output) -> Result<Exit, Failure> {
    if out.format() == Format::Json {
        out.json(&json!({
            "path": place,
            "index": manifest.index,
            "created_ms": manifest.created_ms,
            "rustci": manifest.rustci,
            "state_digest": manifest.state_digest,
            "catalogue_digest": manifest.catalogue_digest,
            "with_keys": manifest.with_keys,
            "files": manifest.files.len(),
            "bytes": manifest.bytes(),
        }))?;
        return Ok(Exit::Success);
    }
    out.text(&format!(
        "{what}: {}\n  index     {}\n  state     {}\n  catalogue {}\n  content   {} files, {} bytes{}\n",
        place.display(),
        manifest.index,
        manifest.state_digest,
        manifest.catalogue_digest,
        manifest.files.len(),
        manifest.bytes(),
        if manifest.with_keys { ", with the key of the secrets" } else { "" },
    ))?;
    Ok(Exit::Success)
}

/// What is wrong with a backup as a failure of the command.
fn refused(error: BackupError) -> Failure {
    match error {
        BackupError::NotABackup { .. }
        | BackupError::Format { .. }
        | BackupError::Damaged(_)
        | BackupError::Foreign(_)
        | BackupError::NotEmpty { .. } => Failure::Refused {
            message: error.to_string(),
            hint: None,
        },
        BackupError::Io {
            doing,
            path,
            source,
        } => Failure::io(format!("{doing} {}", path.display()))(source),
        other => Failure::engine("the backup failed", other),
    }
}
