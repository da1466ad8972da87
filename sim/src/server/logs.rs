//! Log files of attempts, with what is durable of them.

use std::collections::BTreeMap;

use rustci_scheduler::AttemptToken;

use super::Death;
use crate::world::World;

/// All log files.
#[derive(Debug, Default)]
pub(crate) struct LogStore {
    files: BTreeMap<AttemptToken, LogFile>,
}

#[derive(Debug, Default)]
struct LogFile {
    bytes: Vec<u8>,
    durable: usize,
}

impl LogStore {
    /// Appends records that begin at `offset`; what is there already is not written again.
    pub(super) fn append(
        &mut self,
        token: AttemptToken,
        offset: u64,
        records: &[u8],
        world: &mut World,
    ) {
        let file = self.files.entry(token).or_default();
        if offset != file.bytes.len() as u64 {
            let end = file.bytes.len();
            let detail = format!("log of {token} ends at {end}, records come for {offset}");
            world.oracle.fail("I4", detail);
            return;
        }
        file.bytes.extend_from_slice(records);
        world.oracle.logged(token, offset, records);
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) {
        for file in self.files.values_mut() {
            file.durable = file.bytes.len();
        }
    }

    /// Bytes of an attempt's log that are durable.
    pub(crate) fn durable(&self, token: AttemptToken) -> u64 {
        self.files.get(&token).map_or(0, |file| file.durable as u64)
    }

    /// A new process finds the files.
    pub(super) fn restart(&mut self, death: Death, world: &mut World) {
        for file in self.files.values_mut() {
            if death == Death::PowerLost {
                let torn = file.bytes.len() - file.durable;
                let kept = file.durable + world.rng.place(torn + 1);
                file.bytes.truncate(whole_records(&file.bytes, kept));
            }
            file.durable = file.bytes.len();
        }
    }
}

/// The end of the last record that is whole within the first `length` bytes.
fn whole_records(bytes: &[u8], length: usize) -> usize {
    let mut records = valkyrie_frame::LogRecords::new(bytes.get(..length).unwrap_or(bytes));
    while records.next().is_some_and(|record| record.is_ok()) {}
    records.taken()
}
