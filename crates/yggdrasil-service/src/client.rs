//! Who a connection belongs to, and what it has said so far.

use std::sync::Arc;

use resp::Version;

use crate::acl::{DEFAULT, User};
use crate::cluster::Asking;
use crate::feed::{Feed, Kind, Place};
use crate::registry::ClientInfo;
use crate::shared::Shared;

/// Whether a client may do anything but say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not said the password.
    Unknown,
    /// It is known, and each of its commands has to be looked at.
    Checked,
    Known,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) version: Version,
    pub(crate) standing: Standing,
    /// Who it is; `None` before its first command.
    pub(crate) user: Option<Arc<User>>,
    /// How often users had been changed when it last looked.
    pub(crate) users_epoch: u64,
    /// Its thread and its number there.
    pub(crate) place: Place,
    /// What it wants to hear.
    pub(crate) feed: Option<Box<Feed>>,
    pub(crate) auth_failures: u32,
    /// Whether the connection ends after the answers that wait.
    pub(crate) quits: bool,
    /// Whether what waits to be sent says that keys were changed.
    pub(crate) is_unsettled: bool,
    /// Whether its next command is for a slot that is coming to this node.
    pub(crate) asking: Asking,
    /// Whether tokens of buckets of other nodes may be given here.
    pub(crate) near: bool,
    /// The number of the command that it gave last.
    pub(crate) last_command: u16,
    pub(crate) transaction: Option<Box<Transaction>>,
    /// Keys that must not change before `EXEC`, with their versions; 0 is that there was none.
    pub(crate) watched: Vec<(Vec<u8>, u64)>,
}

/// Commands that wait for `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) commands: Vec<Vec<Vec<u8>>>,
    pub(crate) bytes: usize,
    /// One of them was refused, so none will be done.
    pub(crate) is_broken: bool,
}

impl Client {
    pub(crate) fn new(info: Arc<ClientInfo>, standing: Standing) -> Self {
        Self {
            info,
            version: Version::Resp2,
            standing,
            user: None,
            users_epoch: 0,
            place: Place::default(),
            feed: None,
            auth_failures: 0,
            quits: false,
            is_unsettled: false,
            asking: Asking::No,
            near: false,
            last_command: u16::MAX,
            transaction: None,
            watched: Vec::new(),
        }
    }

    /// Its name, empty until it has given one.
    pub(crate) fn name(&self) -> String {
        self.info.said().name.clone()
    }

    /// Forgets what it said, as `RESET` does.
    pub(crate) fn reset(&mut self, shared: &Shared) {
        self.leave(shared);
        self.version = Version::Resp2;
        self.standing = shared.standing();
        self.user = Some(shared.acl.default_user());
        self.transaction = None;
        (self.asking, self.near) = (Asking::No, false);
        self.watched.clear();
        let mut said = self.info.said();
        said.name.clear();
        said.user.clear();
    }

    /// Whether it may only change what it hears, because messages would be taken for answers.
    pub(crate) fn only_listens(&self) -> bool {
        self.version == Version::Resp2
            && self.feed.as_ref().is_some_and(|it| it.subscriptions() > 0)
    }

    /// The name of its user.
    pub(crate) fn user_name(&self) -> &str {
        self.user.as_ref().map_or(DEFAULT, |user| &user.name)
    }

    /// Makes it a user whose password it said.
    pub(crate) fn become_user(&mut self, user: Arc<User>) {
        self.info.said().user.clone_from(&user.name);
        self.user = Some(user);
        self.standing = Standing::Known;
        self.auth_failures = 0;
        self.stand();
    }

    /// Looks anew at what its user may do, after users were changed.
    #[cold]
    pub(crate) fn refresh(&mut self, shared: &Shared) {
        self.users_epoch = shared.acl.epoch();
        let user = shared.acl.user(self.user_name());
        match (self.standing, user) {
            (Standing::Unknown, Some(user)) if user.is_open() => self.standing = Standing::Known,
            (Standing::Unknown, _) => {}
            // Its user is gone.
            (_, None) => self.quits = true,
            (_, Some(user)) => {
                self.quits |= !self.may_hear(&user);
                self.user = Some(user);
            }
        }
        self.stand();
    }

    /// Whether it hears nothing that a user may not.
    fn may_hear(&self, user: &User) -> bool {
        let Some(feed) = &self.feed else {
            return true;
        };
        let all = |kind, is_allowed: fn(&User, &[u8]) -> bool| {
            feed.all(kind).iter().all(|name| is_allowed(user, name))
        };
        let broadcast = feed.caching.iter().filter_map(|it| it.broadcast.as_ref());
        all(Kind::Channel, User::allows_channel)
            && all(Kind::Shard, User::allows_channel)
            && all(Kind::Pattern, User::allows_pattern)
            && all(Kind::Prefix, User::allows_prefix)
            && broadcast.flatten().all(|prefix| user.allows_prefix(prefix))
    }

    /// Looks anew at whether its commands have to be looked at.
    pub(crate) fn stand(&mut self) {
        let is_caching = self.feed.as_ref().is_some_and(|it| it.caching.is_some());
        let is_free = self.user.as_ref().is_some_and(|user| user.is_free());
        let is_checked = self.only_listens() || is_caching || !is_free;
        self.standing = match (self.standing, is_checked) {
            (Standing::Unknown, _) => Standing::Unknown,
            (_, true) => Standing::Checked,
            (_, false) => Standing::Known,
        };
    }

    /// Ends all that it wanted to hear.
    pub(crate) fn leave(&mut self, shared: &Shared) {
        let Some(feed) = self.feed.take() else {
            return;
        };
        let (place, id) = (self.place, self.info.id);
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in feed.all(kind) {
                shared.hub.remove(kind, &name, place, id);
            }
        }
        self.feed = Some(feed);
        self.leave_changes(shared);
        self.feed = None;
        self.stand();
    }

    /// Ends all that it wanted to hear of keys, which only version 3 can tell.
    pub(crate) fn leave_changes(&mut self, shared: &Shared) {
        self.stop_caching(shared);
        let (place, id) = (self.place, self.info.id);
        let Some(feed) = &mut self.feed else {
            return;
        };
        let prefixes = feed.all(Kind::Prefix);
        if prefixes.is_empty() {
            return;
        }
        for prefix in prefixes {
            feed.remove(Kind::Prefix, &prefix);
            shared.changes.unwatch(&prefix, place, id);
        }
        shared.changes.end(&shared.keys);
    }

    /// Ends the care for its cache.
    pub(crate) fn stop_caching(&mut self, shared: &Shared) {
        let (place, id) = (self.place, self.info.id);
        let Some(caching) = self.feed.as_mut().and_then(|feed| feed.caching.take()) else {
            return;
        };
        for prefix in caching.broadcast.unwrap_or_default() {
            shared.changes.stop_broadcast(&prefix, place, id);
        }
        shared.changes.remove_cache(place, id);
        shared.changes.end(&shared.keys);
        self.stand();
    }
}
