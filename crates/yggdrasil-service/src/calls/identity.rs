//! Who a connection is, and what it may do.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use valkyrie::{ErrorCode, Link, Status};

use super::messages;
use crate::acl::{DEFAULT, User};
use crate::client::Standing;
use crate::command;
use crate::limits::AUTH_FAILURES_MAX;
use crate::shared::Shared;

/// Who a connection is.
pub(super) struct Identity {
    link: Link,
    standing: Cell<Standing>,
    user: RefCell<Arc<User>>,
    /// How often users had been changed when it last looked.
    users_epoch: Cell<u64>,
    auth_failures: Cell<u32>,
}

impl Identity {
    pub(super) fn new(shared: &Shared, link: &Link) -> Self {
        Self {
            link: link.clone(),
            users_epoch: Cell::new(shared.acl.epoch()),
            standing: Cell::new(shared.standing()),
            user: RefCell::new(shared.acl.default_user()),
            auth_failures: Cell::new(0),
        }
    }

    /// Whether it may do what this command of clients of Redis does.
    #[inline]
    pub(super) fn may(&self, shared: &Shared, command: &[&[u8]]) -> Result<(), Status> {
        if self.users_epoch.get() != shared.acl.epoch() {
            self.refresh(shared);
        }
        match self.standing.get() {
            Standing::Known => Ok(()),
            Standing::Unknown => Err(Status::denied("the password has to be said first")),
            Standing::Checked => {
                let user = Arc::clone(&self.user.borrow());
                let client = || format!("addr={} lib-name=valkyrie", self.link.peer().address);
                command::may(shared, &user, command, client).map_err(messages::rejected)
            }
        }
    }

    /// Who it is, for what goes on after a call was answered.
    pub(super) fn asker(&self) -> Asker {
        Asker {
            user: self.user.borrow().name.clone(),
            users_epoch: self.users_epoch.get(),
            address: self.link.peer().address.to_string(),
        }
    }

    /// Becomes a user whose password was said.
    pub(super) fn authenticate(
        &self,
        shared: &Shared,
        name: &[u8],
        password: &[u8],
    ) -> Result<(), Status> {
        let name = match name {
            b"" => DEFAULT.as_bytes(),
            name => name,
        };
        self.users_epoch.set(shared.acl.epoch());
        if let Some(user) = shared.acl.authenticate(name, password) {
            self.auth_failures.set(0);
            self.become_user(user);
            return Ok(());
        }
        self.auth_failures.set(self.auth_failures.get() + 1);
        // Whoever guesses has to come anew.
        if self.auth_failures.get() >= AUTH_FAILURES_MAX {
            self.link
                .close(ErrorCode::DENIED, std::time::Duration::ZERO);
        }
        Err(Status::denied("the user or the password is wrong"))
    }

    fn become_user(&self, user: Arc<User>) {
        self.standing.set(match user.is_free() {
            true => Standing::Known,
            false => Standing::Checked,
        });
        self.user.replace(user);
    }

    /// Looks anew at what its user may do, after users were changed.
    #[cold]
    fn refresh(&self, shared: &Shared) {
        self.users_epoch.set(shared.acl.epoch());
        let name = self.user.borrow().name.clone();
        match (self.standing.get(), shared.acl.user(&name)) {
            (Standing::Unknown, Some(user)) if !user.is_open() => {}
            (_, Some(user)) => self.become_user(user),
            // Its user is gone.
            (_, None) => {
                self.standing.set(Standing::Unknown);
                self.link
                    .close(ErrorCode::DENIED, std::time::Duration::ZERO);
            }
        }
    }
}

/// Who asked for something that goes on.
pub(super) struct Asker {
    user: String,
    users_epoch: u64,
    address: String,
}

impl Asker {
    /// Whether its user may do this command of clients of Redis, after users were changed, too.
    pub(super) fn may_still(&mut self, shared: &Shared, command: &[&[u8]]) -> Result<(), Status> {
        let epoch = shared.acl.epoch();
        if self.users_epoch == epoch {
            return Ok(());
        }
        self.users_epoch = epoch;
        match shared.acl.user(&self.user) {
            None => Err(Status::denied("the user is gone")),
            Some(user) if user.is_free() => Ok(()),
            Some(user) => {
                let client = || format!("addr={} lib-name=valkyrie", self.address);
                command::may(shared, &user, command, client).map_err(messages::rejected)
            }
        }
    }
}
