//! Finds the server that a command is to ask: one at a URL, or the data on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use rustci_server::secrets::SECRETS_DIR;
use rustci_server::token::TOKEN_FILE;
use rustci_server::{ReadOnly, Server, ServerConfig};

use crate::api::client::{Api, is_local};
use crate::args::{PlaceArgs, ServerArgs};
use crate::command::serve::not_started;
use crate::context::{Contexts, LOCAL};
use crate::dirs;
use crate::engine;
use crate::failure::Failure;
use crate::project::Project;
use crate::render::summary::shell_word;

/// A server that a command is to ask.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its URL.
    pub(crate) url: String,
    /// What has to be added to commands to get there again.
    pub(crate) arguments: String,
    /// What made it the one.
    pub(crate) why: Why,
    token: Option<String>,
}

/// What made a server the one to ask, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// `--server`
    Option,
    /// `--context`
    ContextOption(String),
    /// `RUSTCI_SERVER`
    Variable,
    /// `RUSTCI_CONTEXT`
    ContextVariable(String),
    /// `rustci context use`
    Current(String),
}

/// The server that arguments, environment and configuration mean; none means this machine.
///
/// # Errors
/// [`Failure::Usage`] for an unknown context or a configuration that cannot be used.
pub(crate) fn target(args: &ServerArgs) -> Result<Option<Target>, Failure> {
    let token = || args.token.clone().or_else(|| variable("RUSTCI_TOKEN"));
    let at = |url: String, why: Why| Target {
        arguments: format!(" --server {}", shell_word(&url)),
        url,
        why,
        token: token(),
    };
    if let Some(url) = &args.server {
        return Ok(Some(at(url.clone(), Why::Option)));
    }
    if let Some(name) = &args.context {
        let option = format!(" --context {}", shell_word(name));
        return named(args, (name, Why::ContextOption(name.clone()), option));
    }
    if let Some(url) = variable("RUSTCI_SERVER") {
        return Ok(Some(at(url, Why::Variable)));
    }
    if let Some(name) = variable("RUSTCI_CONTEXT") {
        let why = Why::ContextVariable(name.clone());
        return named(args, (&name, why, String::new()));
    }
    match Contexts::load()?.current {
        Some(name) => named(args, (&name, Why::Current(name.clone()), String::new())),
        None => Ok(None),
    }
}

/// The server of a context. Its own token is stronger than that of the environment, which was set
/// with some server in mind, perhaps another one.
fn named(
    args: &ServerArgs,
    (name, why, arguments): (&str, Why, String),
) -> Result<Option<Target>, Failure> {
    if name == LOCAL {
        return Ok(None);
    }
    let contexts = Contexts::load()?;
    let context = contexts.get(name)?;
    let token = args.token.clone().or_else(|| context.token.clone());
    Ok(Some(Target {
        url: context.server.clone(),
        arguments,
        why,
        token: token.or_else(|| variable("RUSTCI_TOKEN")),
    }))
}

/// A variable of the environment; an empty one is as good as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A client for `target`, with its token or that of a server on this machine.
///
/// # Errors
/// [`Failure::Usage`] when its URL is not one.
pub(crate) fn connect(target: &Target, data: Option<&Path>) -> Result<Api, Failure> {
    let stored = || {
        let file = dirs::server_data(data).join(TOKEN_FILE);
        fs::read_to_string(file)
            .ok()
            .filter(|_| is_local(&target.url))
            .map(|text| text.trim().to_owned())
    };
    let token = target.token.clone().or_else(stored);
    Api::connect(&target.url, token, &target.arguments)
}

/// A client for the server that arguments, environment and configuration mean.
///
/// # Errors
/// [`Failure::Usage`] when they mean none; `what` is what only a server has.
pub(crate) fn needed(args: &ServerArgs, what: &str) -> Result<Api, Failure> {
    let target = target(args)?.ok_or_else(|| Failure::Usage {
        message: format!("no server is named, and only a server has {what}"),
        hint: "pass --server URL or set RUSTCI_SERVER; `rustci context add` remembers one"
            .to_owned(),
    })?;
    connect(&target, None)
}

/// A place with runs.
#[derive(Debug)]
pub(crate) struct Place {
    /// How to ask it.
    pub(crate) api: Api,
    /// What messages say: `on http://...`, `in /home/ci/shop`.
    pub(crate) name: String,
    /// What has to be added to commands to get here again.
    pub(crate) arguments: String,
    /// The project that lists are about, when it is a server's.
    pub(crate) project: Option<String>,
    /// Where its logs are, when they are on this machine.
    pub(crate) logs: Option<PathBuf>,
    /// The data directory, when it is not a server's.
    pub(crate) local: Option<PathBuf>,
    /// What the client reads from, when it is not a server.
    _data: Option<ReadOnly>,
}

impl Place {
    /// A client for what is going on: the server, or the `rustci run` that goes on here; the data
    /// alone when none does.
    ///
    /// # Errors
    /// When its token cannot be read.
    pub(crate) async fn live(&self) -> Result<Api, Failure> {
        let running = match &self.local {
            Some(dir) => Api::local_run(dir).await?,
            None => None,
        };
        Ok(running.unwrap_or_else(|| self.api.clone()))
    }

    /// A client that may change something: for the server, or for the `rustci run` that goes on
    /// here.
    ///
    /// # Errors
    /// [`Failure::Usage`] when none goes on here.
    pub(crate) async fn writer(&self) -> Result<Api, Failure> {
        let Some(dir) = &self.local else {
            return Ok(self.api.clone());
        };
        let running = Api::local_run(dir).await?;
        running.ok_or_else(|| Failure::Usage {
            message: format!("no `rustci run` is going on {}", self.name),
            hint: format!(
                "what ended cannot be changed; `rustci runs rerun RUN{}` repeats a run",
                self.arguments
            ),
        })
    }
}

/// All places that the arguments mean, at least one.
///
/// # Errors
/// When nothing has been run there, or the data cannot be read.
pub(crate) async fn places(args: &PlaceArgs) -> Result<Vec<Place>, Failure> {
    // A data directory that is named means itself, whatever server is in use otherwise.
    let target = match (&args.data_dir, &args.server.server, &args.server.context) {
        (Some(_), None, None) => None,
        _ => target(&args.server)?,
    };
    if let Some(target) = target {
        let api = connect(&target, args.data_dir.as_deref())?;
        return Ok(vec![Place {
            api,
            name: format!("on {}", target.url),
            arguments: target.arguments,
            project: args
                .project
                .as_ref()
                .map(|name| name.to_string_lossy().into_owned()),
            logs: None,
            local: None,
            _data: None,
        }]);
    }
    if let Some(dir) = &args.data_dir {
        engine::settle(dir, &dir.join(SECRETS_DIR)).await;
        let arguments = format!(" --data-dir {}", shell_word(&dir.to_string_lossy()));
        return Ok(vec![place_of(
            dir,
            format!("in {}", dir.display()),
            arguments,
        )?]);
    }
    let path = args.project.as_deref().unwrap_or(Path::new("."));
    let project = Project::find(path).or_else(|_| Project::at(path))?;
    let arguments = match path.to_string_lossy() {
        path if path == "." => String::new(),
        path => format!(" --project {}", shell_word(&path)),
    };
    let name = format!("in {}", project.root.display());
    let dirs = dirs::local_data_all(&project);
    if dirs.is_empty() {
        return Err(Failure::NoRuns {
            place: name,
            server: String::new(),
        });
    }
    for dir in &dirs {
        engine::settle(dir, &dirs::local_secrets(&project)).await;
    }
    let first = dirs::local_data(&project, 1);
    let place = |dir: &PathBuf| {
        let arguments = match *dir == first {
            true => arguments.clone(),
            false => format!(" --data-dir {}", shell_word(&dir.to_string_lossy())),
        };
        place_of(dir, name.clone(), arguments)
    };
    dirs.iter().map(place).collect()
}

/// A place in which things can be changed: a server, or the data of local runs with a server that
/// lives as long as this.
pub(crate) struct Changeable {
    api: Api,
    arguments: String,
    _server: Option<Server>,
}

impl Changeable {
    /// How to ask it.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// What has to be added to commands to get here again.
    pub(crate) fn arguments(&self) -> &str {
        &self.arguments
    }
}

/// The place that the arguments mean, for changing it.
///
/// # Errors
/// As [`places`], and when a run uses the data at this moment.
pub(crate) async fn changeable(args: &PlaceArgs) -> Result<Changeable, Failure> {
    let place = places(args).await?.into_iter().next();
    let place = place.ok_or_else(|| Failure::NoRuns {
        place: "here".to_owned(),
        server: String::new(),
    })?;
    // Where the logs are on this machine, everything else is, too.
    let Some(dir) = place.logs.as_deref().and_then(Path::parent) else {
        return Ok(Changeable {
            api: place.api,
            arguments: place.arguments,
            _server: None,
        });
    };
    let server = Server::start(ServerConfig::new(dir.to_owned())).map_err(not_started)?;
    let token = server.token().expose().to_owned();
    let api = Api::in_process(server.router(), Some(&token), place.name);
    let _server = Some(server);
    Ok(Changeable {
        api,
        arguments: place.arguments,
        _server,
    })
}

fn place_of(dir: &Path, name: String, arguments: String) -> Result<Place, Failure> {
    let (api, data) = engine::read_only(dir)?;
    let logs = Some(dir.join("logs"));
    Ok(Place {
        api,
        name,
        arguments,
        project: None,
        logs,
        local: Some(dir.to_owned()),
        _data: Some(data),
    })
}
