//! Which processors are near which memory, as Linux tells it in `/sys/devices/system/node`.

use std::fs;
use std::io;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processors that a process can be told to use; the most of the system call.
const CPUS_MAX: usize = CpuSet::MAX_CPU;

/// A node: processors and the memory near them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    pub(crate) number: u32,
    /// In order, each once. None where the node is memory only.
    pub(crate) cpus: Vec<usize>,
    /// To each node in order of their numbers; 10 is to itself.
    pub(crate) distances: Vec<u32>,
    pub(crate) memory_bytes: u64,
}

/// The nodes of a machine, in order of their numbers, which may have holes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Topology {
    pub(crate) nodes: Vec<Node>,
}

impl Topology {
    /// Of this machine; without nodes where the kernel tells nothing.
    pub(crate) fn of_this_machine() -> Self {
        let read = Self::read(Path::new("/sys/devices/system/node"));
        read.unwrap_or_else(|error| {
            tracing::debug!(%error, "the kernel tells nothing about NUMA");
            Self::default()
        })
    }

    /// Of a directory with a directory `nodeN` for each node, and in it `cpulist`, `distance` and
    /// `meminfo`. Nodes of which the first cannot be read are left out, and so is what cannot be read of
    /// the others.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let mut nodes = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("node"));
            if let Some(number) = number.and_then(|number| number.parse().ok())
                && let Some(node) = node(number, &entry.path())
            {
                nodes.push(node);
            }
        }
        nodes.sort_unstable_by_key(|node: &Node| node.number);
        Ok(Self { nodes })
    }

    /// A processor for each of so many threads: as many of each node as of the others, and none twice
    /// before all have one. Only of those that are allowed; nothing where there are none.
    pub(crate) fn places(&self, threads: usize, allowed: impl Fn(usize) -> bool) -> Vec<usize> {
        let cpus = |node: &Node| -> Vec<usize> {
            let cpus = node.cpus.iter().copied();
            cpus.filter(|cpu| allowed(*cpu)).collect()
        };
        let mut nodes: Vec<_> = self.nodes.iter().map(cpus).collect();
        nodes.retain(|cpus| !cpus.is_empty());
        let place = |thread: usize| {
            let cpus = nodes.get(thread % nodes.len())?;
            cpus.get(thread / nodes.len() % cpus.len()).copied()
        };
        match nodes.is_empty() {
            true => Vec::new(),
            false => (0..threads).filter_map(place).collect(),
        }
    }
}

/// A processor for each of so many threads of this process.
pub(crate) fn places(topology: &Topology, threads: usize) -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok(topology.places(threads, |cpu| cpu < CPUS_MAX && allowed.is_set(cpu)))
}

/// Has this thread run on one processor only.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    if cpu < CPUS_MAX {
        set.set(cpu);
    }
    Ok(sched_setaffinity(None, &set)?)
}

fn node(number: u32, directory: &Path) -> Option<Node> {
    let text = |name| fs::read_to_string(directory.join(name)).ok();
    let distances = text("distance").unwrap_or_default();
    let distances: Result<Vec<u32>, _> = distances.split_whitespace().map(str::parse).collect();
    Some(Node {
        number,
        cpus: cpu_list(&text("cpulist")?)?,
        distances: distances.unwrap_or_default(),
        memory_bytes: text("meminfo").and_then(|text| memory(&text)).unwrap_or(0),
    })
}

/// Reads `0-3,8,10-11`; nothing at all is an empty list.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for piece in text.trim().split(',').filter(|piece| !piece.is_empty()) {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Reads the line `Node 0 MemTotal:       16315116 kB`.
fn memory(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(" MemTotal:"))?;
    let (_, value) = line.split_once("MemTotal:")?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn read(files: &[(&str, &str)]) -> Topology {
        Topology::read(tree(files).path()).unwrap()
    }

    #[test]
    fn two_nodes_are_read() {
        let topology = read(&[
            ("node0/cpulist", "0-3,8-11\n"),
            ("node0/distance", "10 21\n"),
            (
                "node0/meminfo",
                "Node 0 MemTotal:       16315116 kB\nNode 0 MemFree: 5 kB\n",
            ),
            ("node1/cpulist", "4-7,12-15\n"),
            ("node1/distance", "21 10\n"),
            ("node1/meminfo", "Node 1 MemTotal:       1024 kB\n"),
            ("online", "0-1\n"),
            ("power/control", "auto\n"),
        ]);
        let node = |number, cpus: [std::ops::Range<usize>; 2], distances, memory_bytes| Node {
            number,
            cpus: cpus.into_iter().flatten().collect(),
            distances,
            memory_bytes,
        };
        let nodes = vec![
            node(0, [0..4, 8..12], vec![10, 21], 16_315_116 << 10),
            node(1, [4..8, 12..16], vec![21, 10], 1 << 20),
        ];
        assert_eq!(topology, Topology { nodes });
        assert_eq!(topology.places(6, |_| true), [0, 4, 1, 5, 2, 6]);
        assert_eq!(
            topology.places(18, |_| true).get(15..),
            Some(&[15, 0, 4][..])
        );
    }

    #[test]
    fn one_node_is_one() {
        let topology = read(&[("node0/cpulist", "0-1\n"), ("node0/distance", "10\n")]);
        assert_eq!(topology.nodes.len(), 1);
        assert_eq!(topology.places(4, |_| true), [0, 1, 0, 1]);
    }

    #[test]
    fn nodes_may_have_holes_no_processors_and_some_that_are_off() {
        let topology = read(&[
            ("node0/cpulist", "0,2\n"),
            ("node2/cpulist", "\n"),
            ("node10/cpulist", "5-6\n"),
            ("node9/cpulist", "3"),
        ]);
        let numbers: Vec<_> = topology.nodes.iter().map(|node| node.number).collect();
        assert_eq!(numbers, [0, 2, 9, 10]);
        // 3 may not be used, so its node has no thread.
        assert_eq!(topology.places(5, |cpu| cpu != 3), [0, 5, 2, 6, 0]);
        assert!(topology.places(5, |_| false).is_empty());
    }

    #[test]
    fn garbage_is_left_out() {
        let topology = read(&[
            ("node0/cpulist", "0-1"),
            ("node0/distance", "10 x"),
            ("node0/meminfo", "Node 0 MemTotal: 99999999999999999999 kB"),
            ("node1/cpulist", "3-1"),
            ("node2/cpulist", "0-99999999999"),
            ("node3/cpulist", "a,b"),
            ("node4/other", "0"),
            ("nodex/cpulist", "5"),
            ("node5/cpulist", "18446744073709551615"),
        ]);
        let node = Node {
            cpus: vec![0, 1],
            ..Node::default()
        };
        assert_eq!(topology.nodes, [node]);
        assert!(Topology::read(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn thread_runs_where_it_is_pinned() {
        let place = places(&Topology::of_this_machine(), 1).unwrap();
        let Some(cpu) = place.first().copied() else {
            // This kernel tells nothing about nodes.
            return;
        };
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            let set = sched_getaffinity(None).unwrap();
            assert!(set.is_set(cpu) && set.count() == 1);
        })
        .join()
        .unwrap();
        assert!(pin(CPUS_MAX).is_err());
    }
}
