//! Finds the server that a command is to ask: one at a URL, or the data on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use rustci_server::ReadOnly;
use rustci_server::token::TOKEN_FILE;

use crate::api::client::{Api, is_local};
use crate::args::PlaceArgs;
use crate::dirs;
use crate::engine;
use crate::failure::Failure;
use crate::project::Project;
use crate::render::summary::shell_word;

/// A client for the server at `url`, with the token given or that of a server on this machine.
///
/// # Errors
/// [`Failure::Usage`] when `url` is not one.
pub(crate) fn connect(url: &str, token: Option<&str>, data: Option<&Path>) -> Result<Api, Failure> {
    let stored = || {
        let file = dirs::server_data(data).join(TOKEN_FILE);
        fs::read_to_string(file)
            .ok()
            .filter(|_| is_local(url))
            .map(|text| text.trim().to_owned())
    };
    Api::connect(url, token.map(str::to_owned).or_else(stored))
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
    /// Where its logs are, when they are on this machine.
    pub(crate) logs: Option<PathBuf>,
    /// What the client reads from, when it is not a server.
    _data: Option<ReadOnly>,
}

/// All places that the arguments mean, at least one.
///
/// # Errors
/// When nothing has been run there, or the data cannot be read.
pub(crate) fn places(args: &PlaceArgs) -> Result<Vec<Place>, Failure> {
    if let Some(url) = &args.server {
        let api = connect(url, args.token.as_deref(), args.data_dir.as_deref())?;
        let arguments = format!(" --server {url}");
        return Ok(vec![Place {
            api,
            name: format!("on {url}"),
            arguments,
            logs: None,
            _data: None,
        }]);
    }
    if let Some(dir) = &args.data_dir {
        let arguments = format!(" --data-dir {}", shell_word(&dir.to_string_lossy()));
        return Ok(vec![place_of(
            dir,
            format!("in {}", dir.display()),
            arguments,
        )?]);
    }
    let project = Project::find(&args.project).or_else(|_| Project::at(&args.project))?;
    let arguments = match args.project.to_string_lossy() {
        path if path == "." => String::new(),
        path => format!(" --project {path}"),
    };
    let name = format!("in {}", project.root.display());
    let dirs = dirs::local_data_all(&project);
    if dirs.is_empty() {
        return Err(Failure::NoRuns { place: name });
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

fn place_of(dir: &Path, name: String, arguments: String) -> Result<Place, Failure> {
    let (api, data) = engine::read_only(dir)?;
    let logs = Some(dir.join("logs"));
    Ok(Place {
        api,
        name,
        arguments,
        logs,
        _data: Some(data),
    })
}
