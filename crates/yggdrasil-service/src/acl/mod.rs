//! Users and what they may do.

mod file;
mod log;
mod rules;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use file::UsersError;
pub(crate) use log::{Log, Refused};
pub(crate) use rules::{Access, RuleError, User};

use crate::command::Lookup;
use crate::config::ServerConfig;
use crate::limits::USERS_MAX;

/// The user of those who have not said who they are.
pub(crate) const DEFAULT: &str = "default";

type Users = BTreeMap<String, Arc<User>>;

/// All users.
#[derive(Debug)]
pub(crate) struct Acl {
    users: Mutex<Users>,
    /// Grows with each change, so that clients look anew at what they may do.
    epoch: AtomicU64,
    /// Where users are kept.
    file: Option<PathBuf>,
    pub(crate) log: Log,
}

/// Why users are not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("Error in ACL SETUSER modifier '{0}': {1}")]
    Rule(String, RuleError),
    #[error("Usernames can't contain spaces or null characters")]
    Name,
    #[error("there are {USERS_MAX} users already")]
    TooMany,
    #[error(
        "This Redis instance is not configured to use an ACL file. You may want to specify users via \
         the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis \
         configuration file set) in order to store users in the Redis configuration."
    )]
    NoFile,
    #[error("{0}")]
    File(#[from] UsersError),
}

impl Acl {
    /// Users as a server is set up with: those of the file where one is named, and the default one.
    pub(crate) fn open(config: &ServerConfig, lookup: &Lookup) -> Result<Self, UsersError> {
        let password = config.password.as_ref().map(|it| *it.digest());
        let mut users = match &config.users {
            Some(path) => file::read(path, lookup)?,
            None => Users::new(),
        };
        if let (Some(path), Some(_), true) = (&config.users, password, users.contains_key(DEFAULT))
        {
            return Err(UsersError::TwoPasswords { path: path.clone() });
        }
        users
            .entry(DEFAULT.to_owned())
            .or_insert_with(|| Arc::new(User::default_one(password)));
        Ok(Self {
            users: Mutex::new(users),
            epoch: AtomicU64::new(1),
            file: config.users.clone(),
            log: Log::default(),
        })
    }

    /// How often users were changed.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn user(&self, name: &str) -> Option<Arc<User>> {
        self.lock().get(name).cloned()
    }

    /// The user of those who have not said who they are.
    pub(crate) fn default_user(&self) -> Arc<User> {
        // It is there from the beginning and cannot be removed.
        let found = self.user(DEFAULT);
        found.unwrap_or_else(|| Arc::new(User::new(DEFAULT.to_owned())))
    }

    /// The user of this name, where that is its password.
    pub(crate) fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let user = str::from_utf8(name).ok().and_then(|name| self.user(name));
        // Whoever guesses does not learn from the time whether there is such a user.
        let user = user.unwrap_or_else(|| Arc::new(User::new(String::new())));
        user.knows(password).then_some(user)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<User>> {
        self.lock().values().cloned().collect()
    }

    /// Changes a user, or makes it: all of the rules are done, or none.
    pub(crate) fn set<'a>(
        &self,
        name: &[u8],
        rules: impl Iterator<Item = &'a [u8]>,
        lookup: &Lookup,
    ) -> Result<(), ChangeError> {
        let is_plain = name
            .iter()
            .all(|byte| !byte.is_ascii_whitespace() && *byte != 0);
        let name = str::from_utf8(name)
            .ok()
            .filter(|it| is_plain && !it.is_empty());
        let name = name.ok_or(ChangeError::Name)?;
        let mut users = self.lock();
        if !users.contains_key(name) && users.len() >= USERS_MAX {
            return Err(ChangeError::TooMany);
        }
        let user = users.entry(name.to_owned());
        let old = match &user {
            std::collections::btree_map::Entry::Occupied(old) => User::clone(old.get()),
            std::collections::btree_map::Entry::Vacant(_) => User::new(name.to_owned()),
        };
        let changed = Arc::new(changed(old, rules, lookup)?);
        users.insert(name.to_owned(), changed);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Removes a user; `false` where there is none.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let removed = self.lock().remove(name).is_some();
        self.epoch.fetch_add(1, Ordering::AcqRel);
        removed
    }

    /// Reads the file again; the names of those who are users no more.
    pub(crate) fn load(&self, lookup: &Lookup) -> Result<Vec<String>, ChangeError> {
        let path = self.file.as_ref().ok_or(ChangeError::NoFile)?;
        let mut read = file::read(path, lookup)?;
        let mut users = self.lock();
        // Where the file does not have it, it stays as it is.
        if let (None, Some(default)) = (read.get(DEFAULT), users.get(DEFAULT)) {
            read.insert(DEFAULT.to_owned(), Arc::clone(default));
        }
        let gone = users.keys().filter(|name| !read.contains_key(*name));
        let gone = gone.cloned().collect();
        *users = read;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        Ok(gone)
    }

    /// Writes all users to the file.
    pub(crate) fn save(&self) -> Result<(), ChangeError> {
        let path = self.file.as_ref().ok_or(ChangeError::NoFile)?;
        Ok(file::write(path, &self.all())?)
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changed<'a>(
    mut user: User,
    rules: impl Iterator<Item = &'a [u8]>,
    lookup: &Lookup,
) -> Result<User, ChangeError> {
    for rule in rules {
        user.apply(rule, lookup).map_err(|error| {
            let rule = String::from_utf8_lossy(rule).chars().take(128).collect();
            ChangeError::Rule(rule, error)
        })?;
    }
    Ok(user)
}

/// As many hexadecimal digits as `bits` need, that nobody can guess.
pub(crate) fn password(bits: usize) -> Option<String> {
    let mut bytes = vec![0; bits.div_ceil(8)];
    getrandom::fill(&mut bytes).ok()?;
    let mut text = rules::hex(&bytes);
    text.truncate(bits.div_ceil(4));
    Some(text)
}
