use proptest::prelude::*;
use rustci_content::{Chunk, Entry, Manifest, TreeKind};
use rustci_scheduler::{AttemptToken, Fence, JobId};

use super::*;
use crate::blobs::{Blobs, publish};
use crate::catalogue::StoredTree;
use crate::content::{ContentConfig, TreeGuard};

fn entry(id: u64, project: &str, bytes: u64, used_ms: u64) -> CacheEntry {
    CacheEntry {
        id,
        project: project.to_owned(),
        scope: "trusted".to_owned(),
        key: id.to_string(),
        tree: StoredTree {
            digest: BlobDigest::of(&id.to_be_bytes()),
            files: 1,
            bytes,
        },
        run: 1,
        job_key: "build".to_owned(),
        created_ms: 0,
        used_ms,
    }
}

#[test]
fn the_entry_that_was_used_longest_ago_goes_first_in_each_project() {
    let entries = vec![
        entry(1, "a", 40, 30),
        entry(2, "a", 40, 10),
        entry(3, "a", 40, 20),
        entry(4, "b", 40, 1),
    ];
    let mut held = Held::default();
    assert_eq!(evicted(entries.clone(), 80, &held), [2]);
    assert_eq!(evicted(entries.clone(), 120, &held), [0_u64; 0]);
    held.trees.insert(BlobDigest::of(&2_u64.to_be_bytes()));
    assert_eq!(evicted(entries.clone(), 80, &held), [3]);
    assert_eq!(evicted(entries, 10, &held), [3, 1, 4]);
}

#[test]
fn an_artifact_stays_while_a_run_needs_it() {
    let artifact = Artifact {
        id: 7,
        run: 3,
        job: 1,
        job_key: "build".to_owned(),
        attempt: 1,
        name: "app".to_owned(),
        tree: entry(1, "a", 1, 1).tree,
        stored_bytes: 0,
        created_ms: 0,
        expires_ms: 100,
    };
    let mut held = Held::default();
    assert_eq!(
        expired(std::slice::from_ref(&artifact), &held, 99),
        [0_u64; 0]
    );
    assert_eq!(expired(std::slice::from_ref(&artifact), &held, 100), [7]);
    held.runs.insert(3);
    assert_eq!(expired(&[artifact], &held, 100), [0_u64; 0]);
}

/// What happens to a store, by number of a tree or attempt.
#[derive(Clone, Debug)]
enum Step {
    /// An attempt brings a tree's blobs.
    Bring(u8, u8),
    /// An attempt ends, and the catalogue names the tree.
    Complete(u8, u8),
    /// An attempt ends without a word.
    Lose(u8),
    /// The catalogue forgets a tree.
    Forget(u8),
    /// An attempt finds a tree that the catalogue names.
    Find(u8, u8),
    /// Somebody begins to read a tree that the catalogue names.
    Read(u8),
    /// They all have read to the end.
    Stop,
    /// A sweep, with blobs that are all old.
    Sweep,
}

const TREES: u8 = 5;

fn step() -> impl Strategy<Value = Step> {
    let (tree, attempt) = (0..TREES, 0..3_u8);
    prop_oneof![
        (attempt.clone(), tree.clone()).prop_map(|(a, t)| Step::Bring(a, t)),
        (attempt.clone(), tree.clone()).prop_map(|(a, t)| Step::Complete(a, t)),
        attempt.clone().prop_map(Step::Lose),
        tree.clone().prop_map(Step::Forget),
        (attempt, tree.clone()).prop_map(|(a, t)| Step::Find(a, t)),
        tree.prop_map(Step::Read),
        Just(Step::Stop),
        Just(Step::Sweep),
    ]
}

/// Trees that share chunks: tree `t` has the chunks `t` and `t + 1`.
fn tree(number: u8) -> (Manifest, Vec<Vec<u8>>) {
    let chunks: Vec<Vec<u8>> = [number, number + 1]
        .iter()
        .map(|byte| vec![*byte; 10])
        .collect();
    let entries = chunks.iter().enumerate().map(|(place, bytes)| {
        let digest = BlobDigest::of(bytes);
        Entry::file(format!("f{place}"), 10, vec![Chunk { digest, length: 10 }])
    });
    let manifest = Manifest::new(TreeKind::Artifact, entries.collect()).unwrap();
    (manifest, chunks)
}

fn digest(number: u8) -> BlobDigest {
    BlobDigest::of(&tree(number).0.encode())
}

fn token(attempt: u8) -> AttemptToken {
    AttemptToken {
        job: JobId(attempt.into()),
        attempt: 1,
        fence: Fence(1),
    }
}

/// A store beside what should be in it.
struct World {
    content: Content,
    named: HashSet<u8>,
    /// What attempts have brought, or found.
    brought: HashSet<(u8, u8)>,
    found: HashSet<(u8, u8)>,
    readers: Vec<(u8, TreeGuard)>,
}

impl World {
    fn bring(&mut self, attempt: u8, number: u8) {
        let (manifest, chunks) = tree(number);
        for bytes in chunks.into_iter().chain([manifest.encode()]) {
            let digest = BlobDigest::of(&bytes);
            self.content.pins.hold(token(attempt), [digest]).unwrap();
            if !self.content.blobs.touch(digest).unwrap() {
                let mut upload = self.content.blobs.upload(digest).unwrap();
                upload.write(&bytes).unwrap();
                publish(vec![upload.seal().unwrap()]).unwrap();
            }
        }
        self.brought.insert((attempt, number));
    }

    fn end(&mut self, attempt: u8) {
        self.content.pins.release(token(attempt));
        self.brought.retain(|(of, _)| *of != attempt);
        self.found.retain(|(of, _)| *of != attempt);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Bring(attempt, number) => self.bring(attempt, number),
            Step::Complete(attempt, number) => {
                if self.brought.contains(&(attempt, number)) {
                    self.named.insert(number);
                }
                self.end(attempt);
            }
            Step::Lose(attempt) => self.end(attempt),
            Step::Forget(number) => drop(self.named.remove(&number)),
            Step::Find(attempt, number) if self.named.contains(&number) => {
                self.content.pins.grant(token(attempt), digest(number));
                self.found.insert((attempt, number));
            }
            Step::Read(number) if self.named.contains(&number) => {
                let guard = self.content.pins.read(digest(number));
                self.readers.push((number, guard));
            }
            Step::Find(..) | Step::Read(_) => {}
            Step::Stop => self.readers.clear(),
            Step::Sweep => self.sweep(),
        }
    }

    fn sweep(&self) {
        let roots = Roots {
            trees: self.named.iter().map(|number| digest(*number)).collect(),
            blobs: HashSet::new(),
        };
        let later = SystemTime::now() + Duration::from_secs(60);
        remove_garbage(&self.content, &roots, later).unwrap();
    }

    fn needed(&self) -> HashSet<u8> {
        let attempts = self.brought.union(&self.found).map(|(_, number)| *number);
        let readers = self.readers.iter().map(|(number, _)| *number);
        self.named
            .iter()
            .copied()
            .chain(attempts)
            .chain(readers)
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_sweep_removes_nothing_that_is_needed_and_everything_else(
        steps in proptest::collection::vec(step(), 1..40))
    {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(dir.path()).unwrap());
        let mut world = World {
            content: Content::new(blobs, ContentConfig::default()),
            named: HashSet::new(),
            brought: HashSet::new(),
            found: HashSet::new(),
            readers: Vec::new(),
        };
        for step in &steps {
            world.take(step);
            for number in world.needed() {
                let manifest = world.content.manifest(digest(number)).unwrap();
                for chunk in manifest.chunks().into_keys() {
                    prop_assert!(world.content.blobs.size(chunk).is_some());
                }
            }
        }
        for attempt in 0..3 {
            world.end(attempt);
        }
        world.readers.clear();
        world.named.clear();
        world.sweep();
        prop_assert_eq!(world.content.blobs.list().unwrap().len(), 0);
    }

    #[test]
    fn eviction_keeps_every_project_within_its_bound_unless_all_that_is_left_is_held(
        sizes in proptest::collection::vec((0..3_u8, 0..50_u64, 0..20_u64, any::<bool>()), 0..20),
        max in 0..120_u64)
    {
        let mut held = Held::default();
        let entries: Vec<CacheEntry> = (0..).zip(&sizes).map(|(id, (project, bytes, used, keep))| {
            let entry = entry(id, &project.to_string(), *bytes, *used);
            if *keep {
                held.trees.insert(entry.tree.digest);
            }
            entry
        }).collect();
        let gone: HashSet<u64> = evicted(entries.clone(), max, &held).into_iter().collect();
        for project in ["0", "1", "2"] {
            let left: Vec<_> = entries.iter()
                .filter(|entry| entry.project == project && !gone.contains(&entry.id)).collect();
            let total: u64 = left.iter().map(|entry| entry.tree.bytes).sum();
            let free = left.iter().any(|entry| !held.trees.contains(&entry.tree.digest));
            prop_assert!(total <= max || !free);
        }
        for entry in &entries {
            prop_assert!(!(gone.contains(&entry.id) && held.trees.contains(&entry.tree.digest)));
        }
    }
}
