//! `rustci secrets`.

use std::io::{IsTerminal, Read, stdin};
use std::path::Path;

use hyper::header::{HeaderValue, IF_NONE_MATCH};
use rustci_server::ServerConfig;
use rustci_server::lock::DataLock;
use rustci_server::secrets::{
    Expected, KEY_FILE, KeyPlace, SECRETS_DIR, Scope, SecretName, SecretStore, SecretsError,
};
use serde_json::json;

use super::watch::now_ms;
use crate::api::client::{Api, encoded};
use crate::api::view::{NewSecret, Rekeyed, SecretList, SecretView};
use crate::args::{SecretsArgs, SecretsCommand};
use crate::dirs;
use crate::engine::local_store;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::project::Project;
use crate::render::{style, table};
use crate::server;

/// One more byte than a value may have, so that a longer one is noticed.
const READ_BYTES_MAX: u64 = (64 << 10) + 1;

/// The store that a command is about.
enum Store {
    /// A server's, through its API.
    Server { api: Api, project: Option<String> },
    /// One on this machine that no server has open.
    Files {
        store: SecretStore,
        scope: Scope,
        _lock: Option<DataLock>,
    },
}

/// Does what the subcommand says.
///
/// # Errors
/// A name or value that is none, an unknown secret, a store that cannot be used.
pub(crate) async fn secrets(args: &SecretsArgs, out: &mut Output) -> Result<Exit, Failure> {
    let store = find(args)?;
    match &args.command {
        SecretsCommand::List => list(&store, out).await?,
        SecretsCommand::Set {
            name,
            value_file,
            new,
        } => {
            let name = SecretName::new(name).map_err(refused)?;
            let expected = if *new {
                Expected::Absent
            } else {
                Expected::Any
            };
            let value = value(value_file.as_deref())?;
            set(&store, name, value, &expected, out).await?;
        }
        SecretsCommand::Rm { name } => {
            remove(&store, SecretName::new(name).map_err(refused)?, out).await?;
        }
        SecretsCommand::Rekey { new_key_file } => {
            rekey(&store, new_key_file.as_deref(), out).await?;
        }
    }
    Ok(Exit::Success)
}

fn find(args: &SecretsArgs) -> Result<Store, Failure> {
    let scope = || Scope::of(args.project.as_deref()).map_err(refused);
    if let Some(dir) = &args.data_dir {
        let lock = DataLock::take(dir).map_err(|error| Failure::Usage {
            message: error.to_string(),
            hint: "use --server while a server runs on it".to_owned(),
        })?;
        let given = dirs::secrets_key(args.secrets_key_file.as_deref());
        let key = given.map_or_else(|| KeyPlace::Own(dir.join(KEY_FILE)), KeyPlace::Given);
        let config = ServerConfig::new(dir.clone());
        let store = SecretStore::open(&config.data_dir.join(SECRETS_DIR), key);
        return Ok(Store::Files {
            store: store.map_err(refused)?,
            scope: scope()?,
            _lock: Some(lock),
        });
    }
    if let Some(target) = server::target(&args.server)? {
        scope()?;
        return Ok(Store::Server {
            api: server::connect(&target, None)?,
            project: args.project.clone(),
        });
    }
    let path = Path::new(args.project.as_deref().unwrap_or("."));
    let project = Project::find(path).or_else(|_| Project::at(path))?;
    Ok(Store::Files {
        store: local_store(&dirs::local_secrets(&project))?,
        scope: Scope::Global,
        _lock: None,
    })
}

async fn list(store: &Store, out: &mut Output) -> Result<(), Failure> {
    let secrets = match store {
        Store::Server { api, project } => all(api, project.as_deref()).await?,
        Store::Files { store, .. } => store.list().iter().map(SecretView::from).collect(),
    };
    if out.format() == Format::Json {
        return out.json(&json!({"secrets": secrets}));
    }
    if secrets.is_empty() {
        let arguments = match store {
            Store::Server { api, .. } => api.arguments(),
            Store::Files { .. } => "",
        };
        return out.text(&format!(
            "no secrets; `rustci secrets set NAME{arguments}` keeps one\n"
        ));
    }
    let now = now_ms();
    let rows: Vec<Vec<String>> = secrets
        .iter()
        .map(|secret| {
            vec![
                secret.name.clone(),
                secret.project.clone().unwrap_or_else(|| "all".to_owned()),
                secret.version.to_string(),
                style::ago(secret.updated_ms, now),
            ]
        })
        .collect();
    let lines = table::table(&["NAME", "PROJECT", "VERSION", "SET"], &rows, out.look());
    out.text(&(lines.join("\n") + "\n"))
}

/// All pages.
async fn all(api: &Api, project: Option<&str>) -> Result<Vec<SecretView>, Failure> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let project = project.map(|name| format!("&project={}", encoded(name)));
        let query = format!("limit=200{cursor}{}", project.unwrap_or_default());
        let page: SecretList = api.get(&format!("/api/v1/secrets?{query}")).await?;
        found.extend(page.secrets);
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

async fn set(
    store: &Store,
    name: SecretName,
    value: String,
    expected: &Expected,
    out: &mut Output,
) -> Result<(), Failure> {
    let view = match store {
        Store::Server { api, project } => {
            let once = (*expected == Expected::Absent)
                .then(|| (IF_NONE_MATCH, HeaderValue::from_static("*")));
            let path = path_of(&name, project.as_deref());
            api.put(&path, &NewSecret { value }, once).await?
        }
        Store::Files { store, scope, .. } => {
            let put = store.put(scope.clone(), name, &value, (expected, now_ms()));
            SecretView::from(&put.map_err(refused)?.info)
        }
    };
    match out.format() {
        Format::Json => out.json(&view),
        Format::Text => out.text(&format!(
            "{} is set for {}, version {}\n",
            view.name,
            view.project.as_deref().unwrap_or("all projects"),
            view.version
        )),
    }
}

async fn remove(store: &Store, name: SecretName, out: &mut Output) -> Result<(), Failure> {
    match store {
        Store::Server { api, project } => {
            if !api.delete(&path_of(&name, project.as_deref())).await? {
                return Err(refused(SecretsError::Unknown(name.to_string())));
            }
        }
        Store::Files { store, scope, .. } => store
            .remove(scope.clone(), name.clone(), &Expected::Any)
            .map_err(refused)?,
    }
    match out.format() {
        Format::Json => out.json(&json!({"removed": name.as_str()})),
        Format::Text => out.text(&format!("{name} is removed\n")),
    }
}

async fn rekey(store: &Store, new: Option<&Path>, out: &mut Output) -> Result<(), Failure> {
    let secrets = match (store, new) {
        (Store::Server { api, .. }, _) => {
            let done: Rekeyed = api.post("/api/v1/secrets/rekey", &json!({})).await?;
            done.secrets
        }
        (Store::Files { store, .. }, None) => count(store.rekey())?,
        (Store::Files { store, .. }, Some(path)) => count(store.rekey_with(path))?,
    };
    match out.format() {
        Format::Json => out.json(&json!({"secrets": secrets})),
        Format::Text => out.text(&format!("{secrets} sealed with a new key\n")),
    }
}

fn count(done: Result<usize, SecretsError>) -> Result<u64, Failure> {
    done.map(|count| u64::try_from(count).unwrap_or(u64::MAX))
        .map_err(refused)
}

fn path_of(name: &SecretName, project: Option<&str>) -> String {
    let scope = project.map(|project| format!("?project={}", encoded(project)));
    format!("/api/v1/secrets/{name}{}", scope.unwrap_or_default())
}

/// The value from a file or standard input, without the line end that an editor or `echo` adds.
fn value(path: Option<&Path>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    match path {
        Some(path) => {
            let reading = || format!("read {}", path.display());
            let file = std::fs::File::open(path).map_err(Failure::io(reading()))?;
            let read = file.take(READ_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(Failure::io(reading()))?;
        }
        None if stdin().is_terminal() => {
            return Err(Failure::Usage {
                message: "the value is read from standard input, and that is a terminal".to_owned(),
                hint: "pipe it in, or pass --value-file FILE".to_owned(),
            });
        }
        None => {
            let read = stdin().take(READ_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(Failure::io("read the value from standard input"))?;
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::Usage {
        message: "the value is not text in UTF-8".to_owned(),
        hint: "encode it first, such as with base64, and decode it in the step".to_owned(),
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// A store's refusal as a failure of the command.
fn refused(error: SecretsError) -> Failure {
    match error {
        SecretsError::Io { .. }
        | SecretsError::Damaged { .. }
        | SecretsError::WrongKey { .. }
        | SecretsError::Random(_) => Failure::engine("cannot use the secrets", error),
        SecretsError::KeyElsewhere(_) => Failure::Usage {
            message: error.to_string(),
            hint: "--new-key-file names the next key".to_owned(),
        },
        other => Failure::Refused {
            message: other.to_string(),
            hint: None,
        },
    }
}
