//! The thread that owns the log.

use std::{
    io,
    sync::{Arc, MutexGuard},
    thread,
    time::Duration,
};

use super::{
    JournalConfig, SyncMode, WhenFull,
    desk::{self, Desk, Helper},
    queue::{Shared, Snapshot},
};
use crate::{Batch, Disk, Index, JournalError, Log};

/// How often a full disk is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn spawn<D: Disk>(
    log: Log<D>,
    shared: Arc<Shared>,
    config: JournalConfig,
) -> io::Result<thread::JoinHandle<()>> {
    let desk = Arc::new(Desk::new(log));
    let helper = match config.mode {
        // Each batch waits for the sync of the one before.
        SyncMode::Always => None,
        SyncMode::Group | SyncMode::Os => Some(Helper::start(&desk, &shared)?),
    };
    let writer = Writer {
        desk,
        shared,
        config,
        waiting: None,
        storing: None,
        _helper: helper,
    };
    thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || writer.run())
}

struct Writer<D: Disk> {
    desk: Arc<Desk<D>>,
    shared: Arc<Shared>,
    config: JournalConfig,
    /// A snapshot whose last record is not synced yet.
    waiting: Option<Snapshot>,
    storing: Option<thread::JoinHandle<()>>,
    _helper: Option<Helper<D>>,
}

type Held<'a, D> = MutexGuard<'a, desk::State<D>>;

impl<D: Disk> Writer<D> {
    fn run(mut self) {
        let desk = Arc::clone(&self.desk);
        while self.is_behind() || self.shared.wait(self.config.spin) {
            if self.shared.failed().is_some() {
                break;
            }
            if let Err(error) = self.step(&desk) {
                self.shared.fail(error);
                break;
            }
        }
        if let Some(storing) = self.storing.take()
            && storing.join().is_err()
        {
            tracing::error!("the thread that stored a snapshot panicked");
        }
    }

    /// Whether something was written beside a sync that is not reported yet.
    fn is_behind(&self) -> bool {
        let desk = self.desk.lock();
        match self.config.mode {
            SyncMode::Os => desk.log.last() > self.shared.synced(),
            SyncMode::Always | SyncMode::Group => desk.log.durable() < desk.log.last(),
        }
    }

    fn step(&mut self, desk: &Desk<D>) -> Result<(), JournalError> {
        // Taken while the log is held: nothing may be written before what was committed earlier.
        let mut held = desk.lock();
        let work = self.shared.take();
        for mut batch in work.batches {
            self.write(&mut held, &mut batch)?;
            self.shared.recycle(batch);
            if self.config.mode == SyncMode::Always {
                self.shared.report(held.log.sync()?);
            }
        }
        match self.config.mode {
            SyncMode::Always => {}
            SyncMode::Group => {
                held = sync(desk, held)?;
                self.report_new(held.log.durable());
            }
            SyncMode::Os => self.report_new(held.log.last()),
        }
        self.waiting = work.snapshot.or(self.waiting.take());
        held = self.store_snapshot(desk, held)?;
        match work.stored {
            Some(index) => held.log.forget(index),
            None => Ok(()),
        }
    }

    /// Writes a batch, once there is room for it where that is waited for.
    fn write(&self, held: &mut Held<'_, D>, batch: &mut Batch) -> Result<(), JournalError> {
        let mut is_told = false;
        loop {
            let error = match held.log.write(batch) {
                Err(error) if error.is_passing() => error,
                done => return done,
            };
            if self.config.when_full == WhenFull::End || self.shared.is_closed() {
                return Err(error);
            }
            if !std::mem::replace(&mut is_told, true) {
                self.shared.stall(error.clone());
            }
            if self.shared.pause(ROOM_PAUSE) {
                return Err(error);
            }
            // A snapshot may be what makes room.
            if let Some(index) = self.shared.take_stored() {
                held.log.forget(index)?;
            }
        }
    }

    fn report_new(&self, synced: Index) {
        if synced > self.shared.synced() {
            self.shared.report(synced);
        }
    }

    /// Stores the waiting snapshot once its records are durable, beside the writing of new ones.
    fn store_snapshot<'a>(
        &mut self,
        desk: &'a Desk<D>,
        mut held: Held<'a, D>,
    ) -> Result<Held<'a, D>, JournalError> {
        // In mode `os` nothing else syncs them, and a snapshot must not outlive its records.
        let last = match self.config.mode {
            SyncMode::Os => held.log.last(),
            SyncMode::Always | SyncMode::Group => held.log.durable(),
        };
        let Some((index, state)) = self.waiting.take_if(|(index, _)| *index <= last) else {
            return Ok(held);
        };
        if held.log.durable() < index {
            held = sync(desk, held)?;
        }
        let (disk, shared) = (held.log.disk(), Arc::clone(&self.shared));
        let store = move || {
            let stored = Log::store_snapshot(&*disk, index, &state);
            shared.snapshot_over(stored.map(|()| index));
        };
        let thread = thread::Builder::new()
            .name("journal-snapshot".to_owned())
            .spawn(store);
        let thread = thread.map_err(|error| JournalError::Writer {
            reason: error.to_string(),
        })?;
        self.storing = Some(thread);
        Ok(held)
    }
}

/// Makes everything written durable, while others may write.
fn sync<'a, D: Disk>(desk: &'a Desk<D>, held: Held<'a, D>) -> Result<Held<'a, D>, JournalError> {
    let Some(unsynced) = held.log.unsynced() else {
        return Ok(held);
    };
    desk.begin_sync(held);
    let synced = unsynced.sync();
    let mut held = desk.end_sync();
    held.log.synced(synced?);
    Ok(held)
}
