//! What a user may do, as rules say it.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::command::{Lookup, in_category, named, permissions};
use crate::glob;

/// A user and all that it may do. One that is made may do nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) is_on: bool,
    pub(crate) needs_no_password: bool,
    /// Digests of passwords, each of which is enough.
    passwords: Vec<[u8; 32]>,
    commands: Commands,
    pub(crate) all_keys: bool,
    keys: Vec<KeyPattern>,
    pub(crate) all_channels: bool,
    channels: Vec<Vec<u8>>,
}

/// Which commands are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Commands {
    /// What is so of all before any rule.
    all: Sign,
    rules: Vec<CommandRule>,
    /// What comes of it, for each permission.
    allowed: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CommandRule {
    sign: Sign,
    /// A command, a part of one, or a category behind `@`.
    name: String,
    permissions: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    pattern: Vec<u8>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Allows,
    Refuses,
}

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Its value is told.
    pub(crate) reads: bool,
    /// It is changed.
    pub(crate) writes: bool,
}

impl Access {
    /// Neither its value is told nor is it changed.
    pub(crate) const NONE: Self = Self {
        reads: false,
        writes: false,
    };
    pub(crate) const READ: Self = Self {
        reads: true,
        writes: false,
    };
    pub(crate) const WRITE: Self = Self {
        reads: false,
        writes: true,
    };
    pub(crate) const BOTH: Self = Self {
        reads: true,
        writes: true,
    };

    const fn covers(self, other: Self) -> bool {
        (self.reads || !other.reads) && (self.writes || !other.writes)
    }
}

/// Why a rule does nothing. The words are those of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("Syntax error")]
    Syntax,
    #[error("Unknown command or category name in ACL")]
    Unknown,
    #[error("Allowing first-arg of a subcommand is not supported")]
    PartOfPart,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal \
         characters"
    )]
    Digest,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have \
         any effect. Try 'resetkeys' to start with an empty list of patterns"
    )]
    AfterAllKeys,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not \
         have any effect. Try 'resetchannels' to start with an empty list of channels"
    )]
    AfterAllChannels,
}

impl Commands {
    fn new(all: Sign) -> Self {
        Self {
            all,
            rules: Vec::new(),
            allowed: vec![all == Sign::Allows; permissions()],
        }
    }

    fn change(&mut self, rule: CommandRule) {
        let mut target = self.allowed.clone();
        rule.apply(&mut target);
        // What it says again of the same is not said twice.
        let covers = |old: &CommandRule| {
            let mut permissions = old.permissions.iter();
            permissions.all(|one| rule.permissions.contains(one))
        };
        self.rules.retain(|old| !covers(old));
        let mut allowed = vec![self.all == Sign::Allows; target.len()];
        self.rules.iter().for_each(|rule| rule.apply(&mut allowed));
        if allowed != target {
            self.rules.push(rule);
        }
        self.allowed = target;
    }

    fn text(&self) -> String {
        let mut text = format!("{}@all", self.all.text());
        for rule in &self.rules {
            let sign = rule.sign.text();
            // Writing to a string does not fail.
            let _ = write!(text, " {sign}{}", rule.name);
        }
        text
    }
}

impl Sign {
    const fn text(self) -> char {
        match self {
            Self::Allows => '+',
            Self::Refuses => '-',
        }
    }
}

impl CommandRule {
    fn apply(&self, allowed: &mut [bool]) {
        for permission in &self.permissions {
            if let Some(allowed) = allowed.get_mut(*permission) {
                *allowed = self.sign == Sign::Allows;
            }
        }
    }
}

impl User {
    /// One that may do nothing.
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            is_on: false,
            needs_no_password: false,
            passwords: Vec::new(),
            commands: Commands::new(Sign::Refuses),
            all_keys: false,
            keys: Vec::new(),
            all_channels: false,
            channels: Vec::new(),
        }
    }

    /// The user of those who have not said who they are: it may do everything, after the password
    /// where there is one.
    pub(crate) fn default_one(password: Option<[u8; 32]>) -> Self {
        Self {
            is_on: true,
            needs_no_password: password.is_none(),
            passwords: password.into_iter().collect(),
            commands: Commands::new(Sign::Allows),
            all_keys: true,
            all_channels: true,
            ..Self::new(super::DEFAULT.to_owned())
        }
    }

    /// Whether nothing is refused to it.
    pub(crate) fn is_free(&self) -> bool {
        self.all_keys && self.all_channels && self.commands.allowed.iter().all(|it| *it)
    }

    /// Whether everyone is this user without saying anything.
    pub(crate) const fn is_open(&self) -> bool {
        self.is_on && self.needs_no_password
    }

    /// Whether these bytes are one of its passwords; takes the same time for all that are not.
    pub(crate) fn knows(&self, password: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(password).into();
        let is_one = self
            .passwords
            .iter()
            .fold(subtle::Choice::from(0), |found, one| {
                found | one.ct_eq(&digest)
            });
        self.is_on && (bool::from(is_one) || self.needs_no_password)
    }

    pub(crate) fn allows(&self, permission: usize) -> bool {
        self.commands.allowed.get(permission).copied() == Some(true)
    }

    pub(crate) fn allows_key(&self, key: &[u8], access: Access) -> bool {
        let mut patterns = self.keys.iter();
        self.all_keys
            || patterns.any(|it| it.access.covers(access) && glob::matches(&it.pattern, key))
    }

    /// Whether it may read all keys that begin so.
    pub(crate) fn allows_prefix(&self, prefix: &[u8]) -> bool {
        let mut patterns = self.keys.iter().filter(|it| it.access.reads);
        self.all_keys
            || patterns.any(|it| match it.pattern.split_last() {
                Some((b'*', fixed)) => is_plain(fixed) && prefix.starts_with(fixed),
                _ => false,
            })
    }

    pub(crate) fn allows_channel(&self, channel: &[u8]) -> bool {
        let mut patterns = self.channels.iter();
        self.all_channels || patterns.any(|pattern| glob::matches(pattern, channel))
    }

    /// Whether it may listen to all channels that match a pattern: one that is named in just these
    /// words.
    pub(crate) fn allows_pattern(&self, wanted: &[u8]) -> bool {
        self.all_channels || self.channels.iter().any(|pattern| pattern == wanted)
    }

    /// Does what a rule says.
    pub(crate) fn apply(&mut self, rule: &[u8], lookup: &Lookup) -> Result<(), RuleError> {
        match rule.to_ascii_lowercase().as_slice() {
            b"on" => self.is_on = true,
            b"off" => self.is_on = false,
            // There is no payload here that could be checked.
            b"sanitize-payload" | b"skip-sanitize-payload" => {}
            b"nopass" => {
                self.needs_no_password = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.needs_no_password = false;
                self.passwords.clear();
            }
            b"allkeys" | b"~*" => {
                self.all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.commands = Commands::new(Sign::Allows),
            b"nocommands" | b"-@all" => self.commands = Commands::new(Sign::Refuses),
            b"reset" => *self = Self::new(std::mem::take(&mut self.name)),
            _ => return self.apply_one(rule, lookup),
        }
        Ok(())
    }

    /// A rule about one thing, whose first byte says which.
    fn apply_one(&mut self, rule: &[u8], lookup: &Lookup) -> Result<(), RuleError> {
        match rule {
            [b'>', password @ ..] => self.add_password(Sha256::digest(password).into()),
            [b'#', digits @ ..] => self.add_password(digest(digits)?),
            [b'<', password @ ..] => return self.remove_password(Sha256::digest(password).into()),
            [b'!', digits @ ..] => return self.remove_password(digest(digits)?),
            [b'~', pattern @ ..] => return self.add_keys(Access::BOTH, pattern),
            [b'%', ..] if self.all_keys => return Err(RuleError::AfterAllKeys),
            [b'%', rest @ ..] => {
                let tilde = rest.iter().position(|byte| *byte == b'~');
                let (letters, pattern) = tilde
                    .and_then(|tilde| rest.split_at_checked(tilde))
                    .ok_or(RuleError::Syntax)?;
                let access = access(letters)?;
                return self.add_keys(access, pattern.get(1..).unwrap_or_default());
            }
            [b'&', pattern @ ..] => return self.add_channels(pattern),
            [sign @ (b'+' | b'-'), name @ ..] => {
                let name = str::from_utf8(name).map_err(|_| RuleError::Unknown)?;
                let sign = match sign {
                    b'+' => Sign::Allows,
                    _ => Sign::Refuses,
                };
                let rule = command_rule(sign, name, lookup)?;
                self.commands.change(rule);
            }
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn add_password(&mut self, digest: [u8; 32]) {
        self.needs_no_password = false;
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
    }

    fn remove_password(&mut self, digest: [u8; 32]) -> Result<(), RuleError> {
        let index = self.passwords.iter().position(|one| *one == digest);
        self.passwords
            .remove(index.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    fn add_keys(&mut self, access: Access, pattern: &[u8]) -> Result<(), RuleError> {
        if pattern
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || *byte == 0)
        {
            return Err(RuleError::Syntax);
        }
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        if access == Access::BOTH && pattern == b"*" {
            self.all_keys = true;
            self.keys.clear();
            return Ok(());
        }
        match self.keys.iter_mut().find(|it| it.pattern == pattern) {
            Some(old) => {
                old.access.reads |= access.reads;
                old.access.writes |= access.writes;
            }
            None => self.keys.push(KeyPattern {
                access,
                pattern: pattern.to_vec(),
            }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if pattern
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || *byte == 0)
        {
            return Err(RuleError::Syntax);
        }
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if !self.channels.iter().any(|old| old == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    /// Passwords as their digests in hexadecimal digits.
    pub(crate) fn digests(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(|digest| hex(digest))
    }

    /// Its commands as rules.
    pub(crate) fn commands(&self) -> String {
        self.commands.text()
    }

    /// Its keys as rules.
    pub(crate) fn keys(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let rule = |it: &KeyPattern| {
            let sign: &[u8] = match (it.access.reads, it.access.writes) {
                (true, false) => b"%R~",
                (false, true) => b"%W~",
                _ => b"~",
            };
            [sign, &it.pattern].concat()
        };
        let rules: Vec<Vec<u8>> = self.keys.iter().map(rule).collect();
        rules.join(&b' ')
    }

    /// Its channels as rules.
    pub(crate) fn channels(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let rule = |it: &Vec<u8>| [b"&", it.as_slice()].concat();
        let rules: Vec<Vec<u8>> = self.channels.iter().map(rule).collect();
        rules.join(&b' ')
    }

    /// The rules that make it, behind `user` and its name: a line of a file.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut words = vec![b"user".to_vec(), self.name.clone().into_bytes()];
        words.push(if self.is_on {
            b"on".to_vec()
        } else {
            b"off".to_vec()
        });
        if self.needs_no_password {
            words.push(b"nopass".to_vec());
        }
        words.extend(self.digests().map(|it| format!("#{it}").into_bytes()));
        words.push(self.keys());
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.push(self.channels());
        words.push(self.commands().into_bytes());
        words.retain(|word| !word.is_empty());
        words.join(&b' ')
    }
}

fn command_rule(sign: Sign, name: &str, lookup: &Lookup) -> Result<CommandRule, RuleError> {
    let name = name.to_ascii_lowercase();
    let permissions = match name.strip_prefix('@') {
        Some(category) => in_category(category),
        None if name.matches('|').count() > 1 => return Err(RuleError::PartOfPart),
        None => named(lookup, &name),
    };
    Ok(CommandRule {
        sign,
        permissions: permissions.ok_or(RuleError::Unknown)?,
        name,
    })
}

fn access(letters: &[u8]) -> Result<Access, RuleError> {
    let mut access = Access::NONE;
    for letter in letters {
        match letter.to_ascii_uppercase() {
            b'R' if !access.reads => access.reads = true,
            b'W' if !access.writes => access.writes = true,
            _ => return Err(RuleError::Syntax),
        }
    }
    match access {
        Access::NONE => Err(RuleError::Syntax),
        access => Ok(access),
    }
}

/// Whether a pattern means only itself.
fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| b"*?[]\\".contains(byte))
}

fn digest(digits: &[u8]) -> Result<[u8; 32], RuleError> {
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return Err(RuleError::Digest);
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(RuleError::Digest),
            };
            *byte = *byte << 4 | value;
        }
    }
    Ok(digest)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(rules: &str) -> Result<User, RuleError> {
        let (mut user, lookup) = (User::new("u".to_owned()), Lookup::default());
        for rule in rules.split_whitespace() {
            user.apply(rule.as_bytes(), &lookup)?;
        }
        Ok(user)
    }

    #[test]
    fn rules_make_lines_that_make_the_same() {
        for (rules, line) in [
            ("", "off resetchannels -@all"),
            ("on nopass ~* &* +@all", "on nopass ~* &* +@all"),
            ("allkeys allchannels allcommands", "off ~* &* +@all"),
            (
                "%RW~a %R~b %W~c %R~d %W~d",
                "off ~a %R~b %W~c ~d resetchannels -@all",
            ),
            ("&a &b &a", "off resetchannels &a &b -@all"),
            ("+get +GET -get +get", "off resetchannels -@all +get"),
            ("+@all -client|id +client", "off resetchannels +@all"),
            (
                "+@read -get +get +config|get -config",
                "off resetchannels -@all +@read",
            ),
            (
                "+@all -@dangerous +info",
                "off resetchannels +@all -@dangerous +info",
            ),
            ("+get -@read", "off resetchannels -@all"),
            ("+set +@read -@all", "off resetchannels -@all"),
            ("on >x nopass reset", "off resetchannels -@all"),
            ("nopass resetpass", "off resetchannels -@all"),
        ] {
            let made = user(rules).unwrap();
            let text = String::from_utf8(made.line()).unwrap();
            assert_eq!(text.strip_prefix("user u "), Some(line), "{rules}");
            assert_eq!(user(line).unwrap(), made, "{rules}");
        }
    }

    #[test]
    fn wrong_rules_are_refused() {
        for (rules, error) in [
            ("x", RuleError::Syntax),
            ("%~x", RuleError::Syntax),
            ("%X~x", RuleError::Syntax),
            ("%Rx", RuleError::Syntax),
            ("+nosuch", RuleError::Unknown),
            ("-@nosuch", RuleError::Unknown),
            ("+config|nosuch", RuleError::Unknown),
            ("+config|get|x", RuleError::PartOfPart),
            ("#12", RuleError::Digest),
            ("<x", RuleError::NoSuchPassword),
            ("~* ~a", RuleError::AfterAllKeys),
            ("&* &a", RuleError::AfterAllChannels),
        ] {
            assert_eq!(user(rules).unwrap_err(), error, "{rules}");
        }
    }

    #[test]
    fn prefixes_need_a_pattern_that_covers_them() {
        let user = user("~a:* %W~w:* ~q?* ~b").unwrap();
        for (prefix, expected) in [
            ("a:", true),
            ("a:b", true),
            ("a", false),
            ("", false),
            ("w:", false),
            ("qx", false),
            ("b", false),
        ] {
            assert_eq!(user.allows_prefix(prefix.as_bytes()), expected, "{prefix}");
        }
    }

    #[test]
    fn passwords_are_known_by_their_digests() {
        let digest = hex(&Sha256::digest(b"b"));
        let mut one = user(&format!("on >a #{digest}")).unwrap();
        assert!(one.knows(b"a") && one.knows(b"b") && !one.knows(b"c"));
        let lookup = Lookup::default();
        one.apply(b"<a", &lookup).unwrap();
        one.apply(format!("!{digest}").as_bytes(), &lookup).unwrap();
        assert!(!one.knows(b"a") && !one.knows(b"b"));
        assert!(!user(">a").unwrap().knows(b"a"));
        assert!(user("on nopass").unwrap().knows(b"anything"));
    }
}
