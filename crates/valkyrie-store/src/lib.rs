//! Rate limits, caches, counters and locks over Redis, Valkey or Yggdrasil, with fallback.
//!
//! [`StoreAdapter`] is what every store does; [`MemoryStore`] does it in this process,
//! [`RedisStore`] over the network, where it speaks to Redis, Valkey and Yggdrasil with what each of
//! them has, [`ValkyrieStore`] speaks to Yggdrasil over Valkyrie, and [`Store`] is any of them. [`HybridStore`] is a chain of stores: what may go on
//! elsewhere when one fails depends on the [`OpClass`] of the operation and on what may have happened,
//! which is what [`StoreError`] tells apart.
//!
//! ```
//! use std::time::Duration;
//! use valkyrie_store::{Limit, MemoryStore, StoreAdapter};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = MemoryStore::new();
//! store.set("greeting", "hello", Some(Duration::from_secs(60))).await?;
//! assert_eq!(store.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
//!
//! let limit = Limit::per(10, Duration::from_secs(1), 5).expect("a rate");
//! let decision = store.consume(b"user 7", &limit, 5).await?;
//! assert!(decision.is_allowed());
//! # Ok::<(), valkyrie_store::StoreError>(()) }).unwrap();
//! ```

mod adapter;
mod attempt;
mod breaker;
pub mod codec;
mod config;
pub mod credentials;
mod duration;
mod error;
mod events;
mod forward;
mod hybrid;
mod memory;
mod migration;
mod redis;
mod retry;
mod spans;
mod store;
mod transaction;
mod usage;
mod valkyrie;
mod watch;

pub use ::valkyrie::Idle;
pub use adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, OpClass, Page, StoreAdapter,
    TokenRequest, USUAL_LIMIT, Value, Written,
};
pub use attempt::Attempt;
pub use breaker::{Breaker, BreakerConfig, BreakerState};
pub use config::{CredentialStatus, NotificationsConfig, Origin, StoreConfig};
pub use error::{Applied, StoreError};
pub use events::{StoreEvent, notify_of};
pub use hybrid::{Backend, BackendStatus, HybridConfig, HybridStore};
pub use memory::MemoryStore;
pub use migration::{
    MemberReport, MigratingStore, MigrationConfig, MigrationPace, MigrationProgress,
    MigrationReport, MigrationState, MigrationStatus, Mismatch, Phase,
};
pub use redis::{Flavor, RedisConfig, RedisStore, TlsConfig, Topology};
pub use secrecy::{ExposeSecret, SecretString};
pub use spans::Parent;
pub use store::Store;
pub use transaction::{Action, STEPS_MAX, Step, Transaction};
pub use usage::{HotKey, Unusual, Use};
pub use valkyrie::{ValkyrieConfig, ValkyrieStore};
pub use watch::{Change, Event, WATCH_EVENTS_MAX, Watch};
pub use yggdrasil::{
    Beyond, Decision, Limit, LimitError, LimitTextError, Outcome, Together, Transacted,
};

/// The name that the documents of the requirement use.
pub type HybridStoreManager = HybridStore;
