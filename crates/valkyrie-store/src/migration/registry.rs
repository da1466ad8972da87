//! What stands in the stores about the migration itself.

use std::time::Duration;

use super::phase::{MigrationState, Phase, Side};
use super::tally::MemberReport;
use super::{Inner, MigrationConfig};
use crate::adapter::{Condition, Leased, Lifetime, StoreAdapter};
use crate::error::{Applied, StoreError};

/// The names of its keys. They are in one slot of a cluster.
#[derive(Debug)]
pub(super) struct Registry {
    prefix: String,
}

/// Changes of the list of members that came in between until one gives up.
const TRIES: usize = 64;

impl Registry {
    pub(super) fn new(name: &str) -> Self {
        Self {
            prefix: format!("valkyrie:{{migration-{name}}}:"),
        }
    }

    /// Whether a key belongs to the migration, and is therefore not copied.
    pub(super) fn owns(&self, key: &[u8]) -> bool {
        // The fencing number of a lease has its name in braces.
        let name = key.strip_prefix(b"{").unwrap_or(key);
        name.starts_with(self.prefix.as_bytes())
    }

    fn state(&self) -> Vec<u8> {
        format!("{}state", self.prefix).into_bytes()
    }

    fn members(&self) -> Vec<u8> {
        format!("{}members", self.prefix).into_bytes()
    }

    fn member(&self, id: &str) -> Vec<u8> {
        format!("{}member:{id}", self.prefix).into_bytes()
    }

    fn coordinator(&self) -> Vec<u8> {
        format!("{}coordinator", self.prefix).into_bytes()
    }
}

impl MigrationConfig {
    /// How long what a member says of itself stays: longer than it acts by what it saw.
    pub(super) fn member_ttl(&self) -> Duration {
        2 * self.fresh + self.refresh
    }
}

type Result<T> = std::result::Result<T, StoreError>;

impl Inner {
    async fn state_of(&self, side: Side) -> Result<MigrationState> {
        let store = self.stored(side);
        match store.read(&self.registry.state()).await? {
            None => Ok(MigrationState::NONE),
            Some(value) => MigrationState::decode(&value.bytes).ok_or_else(|| {
                let key = String::from_utf8_lossy(&self.registry.state()).into_owned();
                StoreError::Rejected {
                    store: store.name().to_owned(),
                    cause: format!("'{key}' is no state of a migration of this version"),
                }
            }),
        }
    }

    /// The state: the later one, or that of the store which keeps it where the other is out of reach.
    pub(super) async fn look(&self) -> Result<MigrationState> {
        let (old, new) = tokio::join!(self.state_of(Side::Old), self.state_of(Side::New));
        match (old, new) {
            (Ok(old), Ok(new)) if old.revision >= new.revision => Ok(old),
            (Ok(_), Ok(new)) => Ok(new),
            (Ok(old), Err(_)) if old.phase.primary() == Side::Old => Ok(old),
            (Err(_), Ok(new)) if new.phase.primary() == Side::New => Ok(new),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Goes from one state to the next; `false` where somebody else was there before.
    pub(super) async fn go(&self, from: &MigrationState, to: &MigrationState) -> Result<bool> {
        let (key, side) = (self.registry.state(), to.phase.primary());
        let store = self.stored(side);
        let there = store.read(&key).await?;
        let known = there.as_ref().map_or(MigrationState::NONE, |value| {
            MigrationState::decode(&value.bytes).unwrap_or(MigrationState::NONE)
        });
        let is_same_side = from.phase.primary() == side;
        if known.revision >= to.revision || (is_same_side && known != *from) {
            return Ok(false);
        }
        let condition = match &there {
            None => Condition::Absent,
            Some(value) => Condition::Equals(&value.bytes),
        };
        let text = to.encode();
        let unlimited = Lifetime::Unlimited;
        let done = store.write(&key, &text, unlimited, condition).await?;
        if done.is_done() {
            // For those who cannot reach the first one; the later revision counts.
            let other = self.stored(side.other());
            let _ = other.write(&key, &text, unlimited, Condition::Always).await;
        }
        Ok(done.is_done())
    }

    /// Says what this process has to say, on both sides; the one that counts has to take it.
    pub(super) async fn tell(&self, id: &str, report: &MemberReport, phase: Phase) -> Result<()> {
        let (old, new) = tokio::join!(
            self.tell_side(Side::Old, id, report),
            self.tell_side(Side::New, id, report)
        );
        match phase.primary() {
            Side::Old => old,
            Side::New => new,
        }
    }

    async fn tell_side(&self, side: Side, id: &str, report: &MemberReport) -> Result<()> {
        let store = self.stored(side);
        let text = serde_json::to_vec(report).unwrap_or_default();
        let lifetime = Lifetime::For(self.config.member_ttl());
        let key = self.registry.member(id);
        store
            .write(&key, &text, lifetime, Condition::Always)
            .await?;
        self.change_members(side, |ids| match ids.iter().any(|known| known == id) {
            true => false,
            false => {
                ids.push(id.to_owned());
                true
            }
        })
        .await
    }

    /// Changes the list of members as one step; `change` says whether there is anything to change.
    async fn change_members(
        &self,
        side: Side,
        change: impl Fn(&mut Vec<String>) -> bool,
    ) -> Result<()> {
        let (store, key) = (self.stored(side), self.registry.members());
        for _ in 0..TRIES {
            let there = store.read(&key).await?;
            let text = there
                .as_ref()
                .map(|value| &value.bytes[..])
                .unwrap_or_default();
            let mut ids = split(text);
            if !change(&mut ids) {
                return Ok(());
            }
            let condition = match &there {
                None => Condition::Absent,
                Some(value) => Condition::Equals(&value.bytes),
            };
            let text = ids.join(",");
            let written = store
                .write(&key, text.as_bytes(), Lifetime::Unlimited, condition)
                .await?;
            if written.is_done() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable {
            store: store.name().to_owned(),
            cause: "the list of those who take part in the migration changed all the time"
                .to_owned(),
            applied: Applied::No,
        })
    }

    /// What all members say. Those that say nothing any more are forgotten.
    pub(super) async fn members(&self, side: Side) -> Result<Vec<(String, MemberReport)>> {
        let store = self.stored(side);
        let there = store.read(&self.registry.members()).await?;
        let text = there
            .as_ref()
            .map(|value| &value.bytes[..])
            .unwrap_or_default();
        let (mut members, mut gone) = (Vec::new(), Vec::new());
        for id in split(text) {
            match store.read(&self.registry.member(&id)).await? {
                None => gone.push(id),
                Some(value) => {
                    let report = serde_json::from_slice(&value.bytes).unwrap_or_default();
                    members.push((id, report));
                }
            }
        }
        if !gone.is_empty() {
            self.change_members(side, |ids| {
                ids.retain(|id| !gone.contains(id));
                true
            })
            .await?;
        }
        Ok(members)
    }

    /// Says that this process takes no part any more.
    pub(super) async fn leave(&self) {
        let key = self.registry.member(&self.id);
        for side in [Side::Old, Side::New] {
            // It ends by itself otherwise.
            let _ = self.stored(side).remove(&key, Condition::Always).await;
        }
    }

    /// Asks to be the one who takes the steps.
    pub(super) async fn lead(&self, id: &str, ttl: Duration) -> Result<Leased> {
        let key = self.registry.coordinator();
        self.old.lease(&key, id.as_bytes(), ttl).await
    }

    pub(super) async fn stop_leading(&self, fence: u64) {
        // It ends by itself otherwise.
        let _ = self.old.release(&self.registry.coordinator(), fence).await;
    }
}

fn split(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.split(',')
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect()
}
