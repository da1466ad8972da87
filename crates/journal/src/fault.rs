//! A disk in memory that fails on request, for simulations and tests.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{Disk, DiskFile};

/// Bytes that reach the medium in one piece.
const SECTOR_BYTES: usize = 512;

/// A source of choices: a number below the one given, which is never 0.
pub type Choose<'a> = &'a mut dyn FnMut(u64) -> u64;

/// A disk whose failures its owner decides. Clones are the same disk.
///
/// Handles made before a [`kill`](Self::kill) or [`lose_power`](Self::lose_power) belong to
/// a process that is gone: what they do afterwards has no effect.
#[derive(Debug, Clone, Default)]
pub struct FaultDisk {
    medium: Arc<Medium>,
    life: u64,
}

#[derive(Debug, Default)]
struct Medium {
    state: Mutex<State>,
    /// Syncs were held or let go, or a process is gone.
    moved: Condvar,
}

/// What the disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// How many more syncs succeed; `None` is all of them.
    pub syncs_left: Option<u32>,
    /// How many more bytes fit; `None` is any number.
    pub bytes_left: Option<u64>,
    /// How many more bytes are written before a write ends in its middle, and the error that it ends
    /// with; `None` is any number.
    pub written_left: Option<(u64, io::ErrorKind)>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, FileState>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_file: u64,
    life: u64,
    faults: Faults,
    syncs: Syncs,
}

/// What happens to syncs of files.
#[derive(Debug, Default)]
struct Syncs {
    are_held: bool,
    waiting: usize,
}

#[derive(Debug, Default)]
struct FileState {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Ranges written since the last sync.
    unsynced: Vec<(usize, usize)>,
}

impl FileState {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        if let Some(room) = self.current.get_mut(offset..end) {
            room.copy_from_slice(bytes);
        }
        self.unsynced.push((offset, end));
    }

    /// Ranges that were given up stay as they are on the medium, as in a page cache.
    fn sync(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for (start, end) in self.unsynced.drain(..) {
            let end = end.min(self.current.len());
            let pair = self.durable.get_mut(start..end);
            if let Some((into, from)) = pair.zip(self.current.get(start..end)) {
                into.copy_from_slice(from);
            }
        }
    }

    /// A sync has failed: what it was for counts as clean, and was not written.
    fn give_up(&mut self) {
        self.unsynced.clear();
    }

    fn cut(&mut self, keep: usize, bytes: usize) {
        for content in [&mut self.current, &mut self.durable] {
            content.truncate(keep);
        }
        self.current.resize(bytes.max(keep), 0);
    }

    /// Keeps any subset of the unsynced sectors, the last kept one cut anywhere.
    fn lose(&mut self, choose: Choose<'_>) {
        let mut survived = std::mem::take(&mut self.durable);
        survived.resize(self.current.len(), 0);
        for (start, end) in std::mem::take(&mut self.unsynced) {
            let end = end.min(survived.len());
            let mut at = start;
            while at < end {
                let next = end.min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
                let kept = match choose(4) {
                    0 => at,
                    1 => at + usize::try_from(choose((next - at) as u64 + 1)).unwrap_or(0),
                    _ => next,
                };
                let pair = survived.get_mut(at..kept).zip(self.current.get(at..kept));
                if let Some((into, from)) = pair {
                    into.copy_from_slice(from);
                }
                at = next;
            }
        }
        self.current.clone_from(&survived);
        self.durable = survived;
    }
}

impl FaultDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is refused from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Lets no sync of a file end from now on.
    pub fn hold_syncs(&self) {
        self.lock().syncs.are_held = true;
    }

    /// Lets syncs go on that were [held](Self::hold_syncs).
    pub fn release_syncs(&self) {
        self.lock().syncs.are_held = false;
        self.medium.moved.notify_all();
    }

    /// Waits until a sync is [held](Self::hold_syncs).
    pub fn wait_for_sync(&self) {
        let no_sync = |state: &mut State| state.syncs.waiting == 0;
        let waited = self.medium.moved.wait_while(self.lock(), no_sync);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The process is killed: its handles die, the operating system keeps what was written.
    /// Returns the disk for the next process.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.lock();
        state.life += 1;
        self.medium.moved.notify_all();
        Self {
            medium: Arc::clone(&self.medium),
            life: state.life,
        }
    }

    /// The power fails: of what was not synced, any part survives. Returns the disk for the next
    /// process.
    #[must_use]
    pub fn lose_power(&self, choose: Choose<'_>) -> Self {
        let mut state = self.lock();
        state.life += 1;
        if choose(2) == 0 {
            state.names = state.durable_names.clone();
        } else {
            state.durable_names = state.names.clone();
        }
        for file in state.files.values_mut() {
            file.lose(choose);
        }
        self.medium.moved.notify_all();
        Self {
            medium: Arc::clone(&self.medium),
            life: state.life,
        }
    }

    /// Inverts one byte of a file on the medium. Does nothing where there is none.
    pub fn flip(&self, name: &str, offset: usize) {
        let mut state = self.lock();
        let file = state.names.get(name).copied();
        let Some(file) = file.and_then(|id| state.files.get_mut(&id)) else {
            return;
        };
        for content in [&mut file.current, &mut file.durable] {
            if let Some(byte) = content.get_mut(offset) {
                *byte = !*byte;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.medium.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("process killed"))
        }
    }

    fn handle(&self, file: u64) -> FaultFile {
        FaultFile {
            disk: self.clone(),
            file,
        }
    }
}

impl State {
    fn named(&self, name: &str) -> io::Result<u64> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn charge(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(left) = &mut self.faults.bytes_left {
            *left = left.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    /// How many of `bytes` a write gets to the file, and what it ends with.
    fn write(&mut self, bytes: usize) -> (usize, io::Result<()>) {
        match &mut self.faults.written_left {
            Some((left, error)) if *left < bytes as u64 => {
                let written = usize::try_from(std::mem::take(left)).unwrap_or(0);
                (written, Err((*error).into()))
            }
            Some((left, _)) => {
                *left -= bytes as u64;
                (bytes, Ok(()))
            }
            None => (bytes, Ok(())),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.faults.syncs_left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("input/output error"))?;
        }
        Ok(())
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.alive()?;
        let file = state.named(name)?;
        Ok(state
            .files
            .get(&file)
            .map(|file| file.current.clone())
            .unwrap_or_default())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<FaultFile> {
        let mut state = self.alive()?;
        state.charge(bytes)?;
        let id = state.next_file;
        state.next_file += 1;
        let length = usize::try_from(bytes).unwrap_or(0);
        let file = FileState {
            current: vec![0; length],
            ..FileState::default()
        };
        state.files.insert(id, file);
        state.names.insert(name.to_owned(), id);
        Ok(self.handle(id))
    }

    fn open(&self, name: &str) -> io::Result<FaultFile> {
        let file = self.alive()?.named(name)?;
        Ok(self.handle(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.alive()?;
        let file = state.named(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.alive()?;
        state.named(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        state.sync()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

/// An open file of a [`FaultDisk`].
#[derive(Debug)]
pub struct FaultFile {
    disk: FaultDisk,
    file: u64,
}

impl FaultFile {
    /// The file, for changing it while the disk stands still.
    fn state<'a>(&self, state: &'a mut State) -> io::Result<&'a mut FileState> {
        let file = state.files.get_mut(&self.file);
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for FaultFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.disk.alive()?;
        let (count, done) = state.write(bytes.len());
        let written = bytes.get(..count).unwrap_or_default();
        self.state(&mut state)?.write(offset, written);
        done
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.alive()?;
        state.syncs.waiting += 1;
        self.disk.medium.moved.notify_all();
        let is_held = |state: &mut State| state.syncs.are_held && state.life == self.disk.life;
        let waited = self.disk.medium.moved.wait_while(state, is_held);
        waited.unwrap_or_else(PoisonError::into_inner).syncs.waiting -= 1;
        let mut state = self.disk.alive()?;
        let done = state.sync();
        let file = self.state(&mut state)?;
        match &done {
            Ok(()) => file.sync(),
            Err(_) => file.give_up(),
        }
        done
    }

    fn reset_tail(&self, keep: u64, bytes: u64) -> io::Result<()> {
        let keep = usize::try_from(keep).map_err(io::Error::other)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut state = self.disk.alive()?;
        let done = state.sync();
        let file = self.state(&mut state)?;
        file.cut(keep, bytes);
        match &done {
            Ok(()) => file.sync(),
            Err(_) => file.give_up(),
        }
        done
    }
}
