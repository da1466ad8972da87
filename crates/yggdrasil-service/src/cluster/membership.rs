//! Who belongs to a cluster.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is called: letters, digits, `-`, `_` and `.`, at most 64.
    pub id: String,
    /// HOST:PORT where clients and the other nodes reach it.
    pub address: String,
    /// Its share of the slots beside the weights of the others. One of 0 gives all away.
    pub weight: u32,
}

/// Who belongs to a cluster, and since which change.
///
/// As text it is a line `epoch N` and a line `node ID HOST:PORT WEIGHT` for each node; `#` begins a
/// comment.
///
/// ```
/// use yggdrasil_service::Membership;
///
/// let text = "epoch 1\nnode a 10.0.0.1:7777 1\nnode b 10.0.0.2:7777 2\n";
/// let membership: Membership = text.parse()?;
/// assert_eq!(membership.nodes().len(), 2);
/// assert_eq!(membership.to_string(), text);
/// # Ok::<(), yggdrasil_service::MembershipError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    epoch: u64,
    nodes: Vec<Node>,
}

/// Why a text is no membership.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct MembershipError {
    /// The line, from 1 on; 0 for the whole.
    pub line: usize,
    /// What is wrong and what to write.
    pub what: String,
}

/// Nodes that a cluster has at most.
const NODES_MAX: usize = 1000;

impl Membership {
    /// Greater with every change.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The nodes, in the order of their names.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn number_of(&self, id: &str) -> Option<u16> {
        let found = self.nodes.iter().position(|node| node.id == id);
        found.and_then(|number| u16::try_from(number).ok())
    }

    pub(crate) fn node(&self, number: u16) -> Option<&Node> {
        self.nodes.get(usize::from(number))
    }

    /// What orders two of them, also where somebody made two changes at once: everyone takes the same.
    pub(crate) fn order(&self) -> (u64, [u8; 32]) {
        use sha2::{Digest, Sha256};
        (self.epoch, Sha256::digest(self.to_string()).into())
    }

    /// The name of exactly this state, for those who have to have the same.
    pub(crate) fn name(&self) -> String {
        let (epoch, digest) = self.order();
        let mut name = format!("{epoch}-");
        for byte in digest.iter().take(8) {
            // Writing to a string does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "epoch {}", self.epoch)?;
        for Node {
            id,
            address,
            weight,
        } in &self.nodes
        {
            writeln!(f, "node {id} {address} {weight}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Membership {
    type Err = MembershipError;

    fn from_str(text: &str) -> Result<Self, MembershipError> {
        let (mut epoch, mut nodes) = (None, Vec::new());
        for (line, text) in (1..).zip(text.lines()) {
            let wrong = |what: String| MembershipError { line, what };
            let text = text.split('#').next().unwrap_or_default();
            let words: Vec<&str> = text.split_whitespace().collect();
            match *words {
                [] => {}
                ["epoch", number] if epoch.is_none() => {
                    let number = number.parse().ok().filter(|number| *number > 0);
                    epoch = Some(number.ok_or_else(|| {
                        wrong("the epoch is no number from 1 on; write epoch N".to_owned())
                    })?);
                }
                ["node", id, address, weight] => {
                    nodes.push(node(id, address, weight).map_err(wrong)?);
                }
                ["node", id, address] => nodes.push(node(id, address, "1").map_err(wrong)?),
                _ => {
                    return Err(wrong(format!(
                        "'{text}' is neither 'epoch N', once, nor 'node ID HOST:PORT WEIGHT'"
                    )));
                }
            }
        }
        let wrong = |what: &str| MembershipError {
            line: 0,
            what: what.to_owned(),
        };
        let epoch = epoch.ok_or_else(|| wrong("there is no epoch; begin with epoch 1"))?;
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Err(wrong("there are no nodes, or over 1000; write 1 to 1000"));
        }
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let ids: BTreeSet<_> = nodes.iter().map(|node| &node.id).collect();
        let addresses: BTreeSet<_> = nodes.iter().map(|node| &node.address).collect();
        if ids.len() < nodes.len() || addresses.len() < nodes.len() {
            return Err(wrong("two nodes have the same name or address"));
        }
        if nodes.iter().all(|node| node.weight == 0) {
            return Err(wrong("all nodes have weight 0; one has to have the slots"));
        }
        Ok(Self { epoch, nodes })
    }
}

fn node(id: &str, address: &str, weight: &str) -> Result<Node, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.len() > 64 || !id.chars().all(is_fine) {
        return Err(format!(
            "'{id}' is no name; use letters, digits, '-', '_' and '.', at most 64"
        ));
    }
    let has_port = |(host, port): (&str, &str)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if !address.rsplit_once(':').is_some_and(has_port) {
        return Err(format!("'{address}' is no address; write HOST:PORT"));
    }
    let number = weight.parse().ok().filter(|weight| *weight <= 1_000_000);
    let weight = number.ok_or_else(|| format!("'{weight}' is no weight of 0 to 1000000"))?;
    Ok(Node {
        id: id.to_owned(),
        address: address.to_owned(),
        weight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written() {
        let text =
            "# a cluster\nepoch 3\n\nnode b 10.0.0.2:7777 # usual weight\nnode a [::1]:7777 0\n";
        let read: Membership = text.parse().unwrap();
        assert_eq!(
            read.to_string(),
            "epoch 3\nnode a [::1]:7777 0\nnode b 10.0.0.2:7777 1\n"
        );
        assert_eq!(read.to_string().parse(), Ok(read.clone()));
        assert_eq!(read.number_of("b"), Some(1));
        assert!(read.name().starts_with("3-"));
    }

    #[test]
    fn mistakes_have_their_line() {
        let wrong = [
            ("", 0, "no epoch"),
            ("epoch 0\nnode a h:1", 1, "from 1 on"),
            ("epoch 1\nepoch 2\nnode a h:1", 2, "once"),
            ("epoch 1", 0, "no nodes"),
            ("epoch 1\nnode a", 2, "neither"),
            ("epoch 1\nnode a h", 2, "HOST:PORT"),
            ("epoch 1\nnode a h:0", 2, "HOST:PORT"),
            ("epoch 1\nnode a :1", 2, "HOST:PORT"),
            ("epoch 1\nnode a/b h:1", 2, "no name"),
            ("epoch 1\nnode a h:1 -1", 2, "no weight"),
            ("epoch 1\nnode a h:1 0", 0, "weight 0"),
            ("epoch 1\nnode a h:1\nnode a h:2", 0, "same name"),
            ("epoch 1\nnode a h:1\nnode b h:1", 0, "same name or address"),
        ];
        for (text, line, what) in wrong {
            let error = text.parse::<Membership>().unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
    }
}
