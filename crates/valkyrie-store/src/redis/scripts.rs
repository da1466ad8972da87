//! What several steps of Redis do as one.

use std::sync::LazyLock;

use redis::Script;

/// The scripts; their texts say what goes in and comes out.
pub(super) struct Scripts {
    pub(super) consume: Script,
    pub(super) consume_many: Script,
    pub(super) write: Script,
    pub(super) remove: Script,
    pub(super) add: Script,
    pub(super) lease: Script,
    pub(super) renew: Script,
    pub(super) acquire: Script,
    pub(super) give_back: Script,
    pub(super) transact: Script,
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    consume: Script::new(include_str!("lua/consume.lua")),
    consume_many: Script::new(include_str!("lua/consume_many.lua")),
    write: Script::new(include_str!("lua/write.lua")),
    remove: Script::new(include_str!("lua/remove.lua")),
    add: Script::new(include_str!("lua/add.lua")),
    lease: Script::new(include_str!("lua/lease.lua")),
    renew: Script::new(include_str!("lua/renew.lua")),
    acquire: Script::new(include_str!("lua/acquire.lua")),
    give_back: Script::new(include_str!("lua/give_back.lua")),
    transact: Script::new(include_str!("lua/transact.lua")),
});
