//! The store of secrets in a directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{FlockOperation, flock};

use crate::expected::Expected;
use crate::limits::{SECRET_BYTES_MAX, SECRETS_MAX};
use crate::secrets::key::{self, SecretKey};
use crate::secrets::seal::{self, Label};
use crate::secrets::table::{Entry, Table};
use crate::secrets::{KeyPlace, Scope, SecretName, Secrets, SecretsError};

/// Name of the file with the sealed values.
pub(crate) const STORE_FILE: &str = "store.json";

/// What is known of a secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// For whom it is.
    pub scope: Scope,
    /// Its name.
    pub name: SecretName,
    /// Counts its changes, from 1.
    pub version: u64,
    /// When it was first set, in Unix milliseconds.
    pub created_ms: u64,
    /// When its value was last set, in Unix milliseconds.
    pub updated_ms: u64,
}

impl SecretInfo {
    /// Names this state of the secret; a removed and newly set one has another.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}-{}", self.version, self.created_ms)
    }
}

/// What setting a secret did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The secret as it is now.
    pub info: SecretInfo,
    /// Whether it is new.
    pub created: bool,
}

/// Sealed secrets in a directory, and the key to them.
///
/// Reads come from memory. A change is on disk when its method returns; a crash leaves the state
/// before or after it. Several processes may change one store, as two shells do with the local one:
/// each change takes a lock and looks at the file again.
#[derive(Debug)]
pub struct SecretStore {
    dir: PathBuf,
    place: KeyPlace,
    state: RwLock<State>,
    edits: Mutex<()>,
}

#[derive(Debug, Clone)]
struct State {
    table: Table,
    /// None until the first secret is set.
    key: Option<SecretKey>,
}

impl SecretStore {
    /// Opens the store in `dir`; there need not be one yet. Nothing is written, except that a
    /// change of the key that a crash cut short is finished.
    ///
    /// # Errors
    /// [`SecretsError`]: `WrongKey` when there are secrets and the key does not fit.
    pub fn open(dir: &Path, place: KeyPlace) -> Result<Self, SecretsError> {
        let state = State::load(dir, &place)?;
        Ok(Self {
            dir: dir.to_owned(),
            place,
            state: RwLock::new(state),
            edits: Mutex::new(()),
        })
    }

    /// The secrets, by scope and name.
    #[must_use]
    pub fn list(&self) -> Vec<SecretInfo> {
        let state = self.state();
        let infos = state.table.entries.iter();
        infos
            .map(|((scope, name), entry)| info(scope, name, entry))
            .collect()
    }

    /// The values that jobs of `project` may have: its own, and the global ones.
    ///
    /// # Errors
    /// [`SecretsError::Damaged`] when a value was not sealed by this key for its place.
    pub fn values(&self, project: &str) -> Result<Secrets, SecretsError> {
        let state = self.state();
        let mut values = Secrets::default();
        let Some(key) = &state.key else {
            return Ok(values);
        };
        // Scopes are in order, the global one first, so a project's own value comes later and wins.
        let mine = state
            .table
            .entries
            .iter()
            .filter(|((scope, _), _)| scope.project().is_none_or(|name| name == project));
        for ((scope, name), entry) in mine {
            let label = Label {
                scope,
                name,
                version: entry.version,
            };
            let value = seal::open(key, label, &entry.sealed).ok_or_else(|| self.bent())?;
            values.insert(name.as_str(), value);
        }
        Ok(values)
    }

    /// Sets a secret at `now_ms`, in Unix milliseconds.
    ///
    /// # Errors
    /// [`SecretsError`]; nothing has changed then.
    pub fn put(
        &self,
        scope: Scope,
        name: SecretName,
        value: &str,
        (expected, now_ms): (&Expected, u64),
    ) -> Result<Put, SecretsError> {
        check(value)?;
        self.edit(|state| {
            let id = (scope, name);
            let old = state.table.entries.get(&id);
            expect(&id, old, expected)?;
            if old.is_none() && state.table.entries.len() >= SECRETS_MAX {
                return Err(SecretsError::Full);
            }
            let created = old.is_none();
            let (version, created_ms) =
                old.map_or((1, now_ms), |old| (old.version + 1, old.created_ms));
            let label = Label {
                scope: &id.0,
                name: &id.1,
                version,
            };
            let sealed = seal::seal(&self.key_for(state)?, label, value)?;
            let entry = Entry {
                version,
                created_ms,
                updated_ms: now_ms,
                sealed,
            };
            let info = info(&id.0, &id.1, &entry);
            state.table.entries.insert(id, entry);
            Ok(Put { info, created })
        })
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`SecretsError`]: `Unknown` when it is not there; nothing has changed then.
    pub fn remove(
        &self,
        scope: Scope,
        name: SecretName,
        expected: &Expected,
    ) -> Result<(), SecretsError> {
        self.edit(|state| {
            let id = (scope, name);
            let old = state.table.entries.get(&id);
            if old.is_none() && *expected == Expected::Any {
                return Err(SecretsError::Unknown(shown(&id)));
            }
            expect(&id, old, expected)?;
            state.table.entries.remove(&id);
            Ok(())
        })
    }

    /// Seals every value anew under a new key. Returns how many there are.
    ///
    /// # Errors
    /// [`SecretsError::KeyElsewhere`] when the key's file is not the store's own; the old key stays
    /// in force after every error.
    pub fn rekey(&self) -> Result<usize, SecretsError> {
        let KeyPlace::Own(_) = &self.place else {
            return Err(SecretsError::KeyElsewhere(self.place.path().to_owned()));
        };
        let _lock = self.lock()?;
        let key = SecretKey::random()?;
        // The new key waits beside the old one until the store is sealed with it. Whichever of the
        // two the store names is the one in force, so a crash between any two lines is harmless.
        key.save(&self.place.next())?;
        let count = self.reseal(&key)?;
        key::promote(&self.place)?;
        Ok(count)
    }

    /// Seals every value anew under the key in `path`, for a store whose key is looked after
    /// elsewhere: it has to be opened with that file from now on. Returns how many there are.
    ///
    /// # Errors
    /// [`SecretsError`]; the old key stays in force then.
    pub fn rekey_with(&self, path: &Path) -> Result<usize, SecretsError> {
        let _lock = self.lock()?;
        let key = SecretKey::load(path)?.ok_or_else(|| SecretsError::Damaged {
            path: path.to_owned(),
            what: "there is no such key file",
        })?;
        self.reseal(&key)
    }

    fn reseal(&self, key: &SecretKey) -> Result<usize, SecretsError> {
        let mut state = State::load(&self.dir, &self.place)?;
        let old = state.key.take();
        for ((scope, name), entry) in &mut state.table.entries {
            let label = Label {
                scope,
                name,
                version: entry.version,
            };
            let value = old
                .as_ref()
                .and_then(|old| seal::open(old, label, &entry.sealed));
            entry.sealed = seal::seal(key, label, &value.ok_or_else(|| self.bent())?)?;
        }
        state.table.key = key.id();
        state.key = Some(key.clone());
        self.make_dir()?;
        state.table.save(&store_file(&self.dir))?;
        let count = state.table.entries.len();
        self.publish(state);
        Ok(count)
    }

    /// Makes one change: in memory only after it is on disk.
    fn edit<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, SecretsError>,
    ) -> Result<T, SecretsError> {
        let _lock = self.lock()?;
        let mut state = State::load(&self.dir, &self.place)?;
        let done = change(&mut state)?;
        state.table.save(&store_file(&self.dir))?;
        self.publish(state);
        Ok(done)
    }

    /// The key, made when this is the first secret.
    fn key_for(&self, state: &mut State) -> Result<SecretKey, SecretsError> {
        if let Some(key) = &state.key {
            state.table.key = key.id();
            return Ok(key.clone());
        }
        let KeyPlace::Own(path) = &self.place else {
            return Err(SecretsError::Damaged {
                path: self.place.path().to_owned(),
                what: "there is no key",
            });
        };
        let key = SecretKey::random()?;
        key.save(path)?;
        state.table.key = key.id();
        state.key = Some(key.clone());
        Ok(key)
    }

    fn lock(&self) -> Result<Lock<'_>, SecretsError> {
        let edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_dir()?;
        let path = self.dir.join("lock");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(SecretsError::io(&path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| SecretsError::io(&path)(error.into()))?;
        Ok(Lock {
            _file: file,
            _edits: edits,
        })
    }

    fn make_dir(&self) -> Result<(), SecretsError> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&self.dir);
        made.map_err(SecretsError::io(&self.dir))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn bent(&self) -> SecretsError {
        SecretsError::Damaged {
            path: store_file(&self.dir),
            what: "a value does not belong to its name",
        }
    }
}

/// Held while the store changes.
struct Lock<'s> {
    _file: File,
    _edits: MutexGuard<'s, ()>,
}

impl State {
    fn load(dir: &Path, place: &KeyPlace) -> Result<Self, SecretsError> {
        let table = Table::load(&store_file(dir))?;
        key::narrow(place);
        let key = SecretKey::load(place.path())?;
        if table.key.is_empty() || key.as_ref().is_some_and(|key| key.id() == table.key) {
            return Ok(Self { table, key });
        }
        if matches!(place, KeyPlace::Own(_))
            && let Some(next) = SecretKey::load(&place.next())?
            && next.id() == table.key
        {
            key::promote(place)?;
            let key = Some(next);
            return Ok(Self { table, key });
        }
        Err(SecretsError::WrongKey {
            store: store_file(dir),
            key: place.path().to_owned(),
            wanted: table.key,
            found: key.map_or_else(|| "none".to_owned(), |key| key.id()),
        })
    }
}

fn store_file(dir: &Path) -> PathBuf {
    dir.join(STORE_FILE)
}

fn check(value: &str) -> Result<(), SecretsError> {
    if value.len() > SECRET_BYTES_MAX {
        return Err(SecretsError::TooLarge(value.len()));
    }
    if value.is_empty() {
        return Err(SecretsError::Value("a secret is not empty"));
    }
    if value.contains('\0') {
        // It could not be put into an environment.
        return Err(SecretsError::Value("a secret has no NUL character"));
    }
    Ok(())
}

fn expect(
    id: &(Scope, SecretName),
    old: Option<&Entry>,
    expected: &Expected,
) -> Result<(), SecretsError> {
    let tag = old.map(|old| info(&id.0, &id.1, old).tag());
    if expected.agrees(tag.as_deref()) {
        Ok(())
    } else {
        Err(SecretsError::Changed(shown(id)))
    }
}

fn shown((scope, name): &(Scope, SecretName)) -> String {
    match scope.project() {
        None => format!("{name}"),
        Some(project) => format!("{name} of project {project}"),
    }
}

fn info(scope: &Scope, name: &SecretName, entry: &Entry) -> SecretInfo {
    SecretInfo {
        scope: scope.clone(),
        name: name.clone(),
        version: entry.version,
        created_ms: entry.created_ms,
        updated_ms: entry.updated_ms,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn key(&self) -> PathBuf {
            self.0.path().join("secrets.key")
        }

        fn dir(&self) -> PathBuf {
            self.0.path().join("secrets")
        }

        fn open(&self) -> Result<SecretStore, SecretsError> {
            SecretStore::open(&self.dir(), KeyPlace::Own(self.key()))
        }

        fn all_bytes(&self) -> Vec<u8> {
            let mut dirs = vec![self.0.path().to_owned()];
            let mut bytes = Vec::new();
            while let Some(dir) = dirs.pop() {
                for entry in fs::read_dir(dir).unwrap().flatten() {
                    match entry.file_type().unwrap().is_dir() {
                        true => dirs.push(entry.path()),
                        false => bytes.extend(fs::read(entry.path()).unwrap()),
                    }
                }
            }
            bytes
        }
    }

    fn name(text: &str) -> SecretName {
        SecretName::new(text).unwrap()
    }

    fn shop() -> Scope {
        Scope::of(Some("shop")).unwrap()
    }

    fn set(store: &SecretStore, scope: Scope, id: &str, value: &str) -> Put {
        store
            .put(scope, name(id), value, (&Expected::Any, 7))
            .unwrap()
    }

    #[test]
    fn values_survive_a_restart_and_are_nowhere_in_clear() {
        let place = Place::new();
        let store = place.open().unwrap();
        assert!(!place.dir().exists(), "looking makes nothing");
        set(&store, Scope::Global, "A", "hunter2-global");
        set(&store, shop(), "A", "hunter2-shop");
        set(&store, Scope::Global, "B", "line one\nline two");
        drop(store);
        let store = place.open().unwrap();
        assert_eq!(store.values("shop").unwrap().get("A"), Some("hunter2-shop"));
        let other = store.values("other").unwrap();
        assert_eq!(other.get("A"), Some("hunter2-global"));
        assert_eq!(other.get("b"), Some("line one\nline two"));
        let bytes = place.all_bytes();
        for needle in ["hunter2", "line one"] {
            assert!(
                !bytes
                    .windows(needle.len())
                    .any(|window| window == needle.as_bytes())
            );
        }
        let shown = format!("{store:?} {other:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let place = Place::new();
        set(&place.open().unwrap(), Scope::Global, "A", "x");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.key()), 0o600);
        assert_eq!(mode(&place.dir().join(STORE_FILE)), 0o600);
        assert_eq!(mode(&place.dir()), 0o700);
    }

    #[test]
    fn a_change_that_expects_another_state_is_refused() {
        let place = Place::new();
        let store = place.open().unwrap();
        let first = set(&store, Scope::Global, "A", "one");
        assert!(first.created);
        let second = set(&store, Scope::Global, "A", "two");
        assert_eq!((second.info.version, second.created), (2, false));
        let stale = Expected::Tag(first.info.tag());
        let put = |expected: &Expected| store.put(Scope::Global, name("A"), "x", (expected, 8));
        for expected in [Expected::Absent, stale.clone()] {
            assert!(matches!(put(&expected), Err(SecretsError::Changed(_))));
        }
        let gone = store.remove(Scope::Global, name("A"), &stale);
        assert!(matches!(gone, Err(SecretsError::Changed(_))));
        assert_eq!(store.values("p").unwrap().get("A"), Some("two"));
        put(&Expected::Tag(second.info.tag())).unwrap();
        store
            .remove(Scope::Global, name("A"), &Expected::Any)
            .unwrap();
        let gone = store.remove(Scope::Global, name("A"), &Expected::Any);
        assert!(matches!(gone, Err(SecretsError::Unknown(_))));
    }

    #[test]
    fn a_new_key_opens_what_the_old_one_no_longer_does() {
        let place = Place::new();
        let store = place.open().unwrap();
        set(&store, Scope::Global, "A", "one");
        let old = fs::read(place.key()).unwrap();
        let before = fs::read(place.dir().join(STORE_FILE)).unwrap();
        assert_eq!(store.rekey().unwrap(), 1);
        assert_ne!(fs::read(place.key()).unwrap(), old);
        assert_eq!(
            place.open().unwrap().values("p").unwrap().get("A"),
            Some("one")
        );
        fs::write(place.key(), old).unwrap();
        assert!(matches!(place.open(), Err(SecretsError::WrongKey { .. })));
        fs::write(place.dir().join(STORE_FILE), before).unwrap();
        assert_eq!(
            place.open().unwrap().values("p").unwrap().get("A"),
            Some("one")
        );
    }

    #[test]
    fn a_crash_while_the_key_changes_loses_nothing() {
        let place = Place::new();
        set(&place.open().unwrap(), Scope::Global, "A", "one");
        let (old, next) = (
            fs::read(place.key()).unwrap(),
            place.0.path().join("secrets.key.next"),
        );
        // Before the store is sealed anew.
        SecretKey::random().unwrap().save(&next).unwrap();
        let store = place.open().unwrap();
        assert_eq!(store.values("p").unwrap().get("A"), Some("one"));
        // After it, before the key has its place.
        store.rekey().unwrap();
        fs::rename(place.key(), &next).unwrap();
        fs::write(place.key(), old).unwrap();
        assert_eq!(
            place.open().unwrap().values("p").unwrap().get("A"),
            Some("one")
        );
        assert!(!next.exists());
    }

    #[test]
    fn a_missing_key_and_a_damaged_store_say_so() {
        let place = Place::new();
        set(&place.open().unwrap(), Scope::Global, "A", "one");
        let key = fs::read(place.key()).unwrap();
        fs::remove_file(place.key()).unwrap();
        let error = place.open().unwrap_err().to_string();
        assert!(error.contains("has none"), "{error}");
        fs::write(place.key(), key).unwrap();
        fs::write(place.dir().join(STORE_FILE), "{}").unwrap();
        assert!(matches!(place.open(), Err(SecretsError::Damaged { .. })));
    }

    #[test]
    fn two_processes_do_not_undo_each_other() {
        let place = Place::new();
        let (one, two) = (place.open().unwrap(), place.open().unwrap());
        set(&one, Scope::Global, "A", "1");
        set(&two, Scope::Global, "B", "2");
        let all = place.open().unwrap().values("p").unwrap();
        assert_eq!((all.get("A"), all.get("B")), (Some("1"), Some("2")));
    }

    #[test]
    fn a_store_that_cannot_be_written_keeps_its_state() {
        let place = Place::new();
        let store = place.open().unwrap();
        set(&store, Scope::Global, "A", "1");
        fs::create_dir(place.dir().join("store.part")).unwrap();
        let refused = store.put(Scope::Global, name("A"), "2", (&Expected::Any, 9));
        assert!(
            matches!(refused, Err(SecretsError::Io { .. })),
            "{refused:?}"
        );
        assert_eq!(store.values("p").unwrap().get("A"), Some("1"));
    }

    #[test]
    fn values_have_limits() {
        let place = Place::new();
        let store = place.open().unwrap();
        let put = |value: &str| store.put(Scope::Global, name("A"), value, (&Expected::Any, 1));
        assert!(matches!(put(""), Err(SecretsError::Value(_))));
        assert!(matches!(put("a\0"), Err(SecretsError::Value(_))));
        let large = "x".repeat(SECRET_BYTES_MAX + 1);
        assert!(matches!(put(&large), Err(SecretsError::TooLarge(_))));
        put(&large[1..]).unwrap();
    }
}
