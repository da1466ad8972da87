//! Clusters: `yggdrasil cluster`, and what `serve` is told of one.

use std::io::Read;
use std::path::Path;
use std::{fs, io};

use resp::Reply;
use yggdrasil_service::{ClusterConfig, Membership};

use crate::args::{AddressArgs, ClusterCommand, ServeArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, print};

pub(crate) fn cluster(command: &ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Show(server) => show(server, b"STATUS"),
        ClusterCommand::Get(server) => show(server, b"GET"),
        ClusterCommand::Set { file, server } => {
            let text = match file.as_os_str() == "-" {
                true => {
                    let mut text = String::new();
                    let read = io::stdin().read_to_string(&mut text);
                    read.map_err(|error| Failure::members(file, error))?;
                    text
                }
                false => read(file)?,
            };
            // So that mistakes have the file's name.
            let members = parse(file, &text)?.to_string();
            connect(server)?.ask(&[b"YGG.CLUSTER", b"SET", members.as_bytes()])?;
            print(b"set; `yggdrasil cluster show` says when nothing is on its way any more\n")
        }
    }
}

fn show(server: &AddressArgs, what: &[u8]) -> Result<(), Failure> {
    match connect(server)?.ask(&[b"YGG.CLUSTER", what])? {
        Reply::Bulk(text) => print(&text),
        other => Err(Failure::Answer {
            address: server.address.clone(),
            cause: format!("the answer is none: {other:?}"),
        }),
    }
}

fn connect(server: &AddressArgs) -> Result<Client, Failure> {
    let file = server.password_file.as_deref();
    let password = file.map(output::password).transpose()?;
    Client::connect(&server.address, password.as_deref())
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure::members(file, error))
}

fn parse(file: &Path, text: &str) -> Result<Membership, Failure> {
    text.parse().map_err(|error| Failure::members(file, error))
}

/// What `serve` is told of its cluster, if of any.
pub(crate) fn config(args: &ServeArgs) -> Result<Option<ClusterConfig>, Failure> {
    let (Some(file), Some(node)) = (&args.cluster.cluster, &args.cluster.node) else {
        return Ok(None);
    };
    let own = args.cluster.node_password_file.as_deref();
    let password = own.or(args.password_file.as_deref());
    let password = password.map(output::password).transpose()?;
    let user = &args.cluster.node_user;
    let credentials = password.map(|password| {
        let password = String::from_utf8_lossy(&password).into_owned();
        (user.clone(), password)
    });
    Ok(Some(ClusterConfig {
        timeout: args.cluster.node_timeout,
        credentials,
        file: args.data_dir.as_ref().map(|dir| dir.join("cluster")),
        ..ClusterConfig::new(node, parse(file, &read(file)?)?)
    }))
}
