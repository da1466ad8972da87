//! `valkyrie.yaml`.

mod notifications;
mod opentelemetry;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use telemetry::otlp::OpenTelemetryConfig;

use crate::codec::{CodecConfig, Compression, Unencoded, ValueKey};
use crate::credentials::{
    CredentialError, Environment, Secret, SecretSource, SourceSection, is_sealed, password_purpose,
};
use crate::error::StoreError;
use crate::hybrid::{HybridConfig, HybridStore};
use crate::memory::MemoryStore;
use crate::redis::{RedisConfig, RedisStore, TlsConfig, Topology};
use crate::store::Store;

pub use notifications::NotificationsConfig;

/// Which stores there are, in which order they are asked, and how they are reached.
///
/// The file is YAML; unknown keys are errors. A password never stands in it as it is. It is the first
/// there is of: what [`set_password`](Self::set_password) was given, the environment variable
/// `VALKYRIE_REDIS_PASSWORD` (or `_VALKEY_`, `_YGGDRASIL_`), and what `password_from` names or
/// `password_encrypted` holds for the store.
///
/// ```
/// use valkyrie_store::StoreConfig;
///
/// let config = StoreConfig::from_text("
/// store:
///   mode: redis
///   fallback_chain: [redis, memory]
///   redis: { url: 'redis://localhost:6379' }
/// ")?;
/// assert_eq!(config.chain(), ["redis", "memory"]);
/// # Ok::<(), valkyrie_store::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoreConfig {
    chain: Vec<Kind>,
    servers: BTreeMap<Kind, ServerSection>,
    passwords: BTreeMap<Kind, SecretString>,
    environment: Environment,
    tls: BTreeMap<Kind, TlsConfig>,
    hybrid: HybridConfig,
    opentelemetry: OpenTelemetryConfig,
    notifications: NotificationsConfig,
}

/// What stands under a name of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Redis,
    Valkey,
    Yggdrasil,
    Memory,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
            Self::Yggdrasil => "yggdrasil",
            Self::Memory => "memory",
        }
    }
}

/// Where the password of a store comes from.
#[derive(Debug, Clone)]
pub struct CredentialStatus {
    /// The store's name.
    pub store: &'static str,
    /// Its user; `None` is the default user.
    pub username: Option<String>,
    /// Who or what has the password.
    pub origin: Origin,
    /// Why it cannot be had, with the field that it stands in.
    pub error: Option<StoreError>,
}

/// Who or what has a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: there is none.
    Nothing,
    /// [`StoreConfig::set_password`] was called.
    Program,
    /// It is looked for there.
    Source {
        /// The field or variable that says so.
        field: String,
        /// Where.
        source: SecretSource,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no password"),
            Self::Program => f.write_str("the program"),
            Self::Source { source, .. } => write!(f, "{source}"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    store: StoreSection,
    #[serde(default)]
    telemetry: opentelemetry::Section,
    #[serde(default)]
    notifications: notifications::Section,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSection {
    mode: Kind,
    #[serde(default)]
    fallback_chain: Vec<Kind>,
    redis: Option<ServerSection>,
    valkey: Option<ServerSection>,
    yggdrasil: Option<ServerSection>,
    #[serde(default = "one")]
    expected_nodes: u32,
    #[serde(default)]
    limits_open: bool,
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSection {
    url: String,
    username: Option<String>,
    /// Only there to be refused with the right words.
    password: Option<serde::de::IgnoredAny>,
    password_encrypted: Option<String>,
    password_from: Option<SourceSection>,
    compression: Option<Compression>,
    compress_from_bytes: Option<usize>,
    encryption_key_from: Option<SourceSection>,
    #[serde(default)]
    encoding_required: bool,
    #[serde(default = "pool_size")]
    pool_size: usize,
    #[serde(default = "max_retries")]
    max_retries: u32,
    #[serde(default = "timeout_ms")]
    timeout_ms: u64,
    #[serde(default)]
    cluster_mode: bool,
    #[serde(default)]
    tls: bool,
}

const fn pool_size() -> usize {
    2
}

const fn max_retries() -> u32 {
    3
}

const fn timeout_ms() -> u64 {
    1000
}

type Result<T> = std::result::Result<T, StoreError>;

fn wrong(text: impl Into<String>) -> StoreError {
    StoreError::Config(text.into())
}

impl StoreConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) with the file, and line and column where it is not as it should
    /// be.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let named = |error: String| wrong(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::from_text(&text).map_err(|error| named(error.to_string()))
    }

    /// Reads the text of a file. Passwords are looked for when stores are made.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn from_text(text: &str) -> Result<Self> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let opentelemetry = opentelemetry::config(file.telemetry)?;
        let notifications = NotificationsConfig::of(file.notifications)?;
        let StoreSection {
            mode,
            fallback_chain,
            redis,
            valkey,
            yggdrasil,
            expected_nodes,
            limits_open,
        } = file.store;
        let mut chain = vec![mode];
        chain.extend(fallback_chain.into_iter().filter(|kind| *kind != mode));
        let count = chain.len();
        let mut servers = BTreeMap::new();
        let sections = [
            (Kind::Redis, redis),
            (Kind::Valkey, valkey),
            (Kind::Yggdrasil, yggdrasil),
        ];
        for (kind, section) in sections {
            if let Some(section) = section {
                check(kind, &section)?;
                servers.insert(kind, section);
            }
        }
        for kind in &chain {
            if *kind != Kind::Memory && !servers.contains_key(kind) {
                let name = kind.name();
                return Err(wrong(format!(
                    "store.fallback_chain has {name}, and there is no store.{name}; add it with its url"
                )));
            }
        }
        chain.sort_by_key(|kind| *kind != mode);
        let distinct: std::collections::BTreeSet<_> = chain.iter().collect();
        if distinct.len() < count {
            return Err(wrong("store.fallback_chain names a store twice"));
        }
        let hybrid = HybridConfig {
            expected_nodes,
            limits_open,
            ..HybridConfig::default()
        };
        Ok(Self {
            chain,
            servers,
            passwords: BTreeMap::new(),
            environment: Environment::process(),
            tls: BTreeMap::new(),
            hybrid,
            opentelemetry,
            notifications,
        })
    }

    /// The names of the stores in the order in which they are asked.
    #[must_use]
    pub fn chain(&self) -> Vec<&'static str> {
        self.chain.iter().map(|kind| kind.name()).collect()
    }

    /// Where traces and metrics go, if they are to go anywhere.
    #[must_use]
    pub fn opentelemetry(&self) -> &OpenTelemetryConfig {
        &self.opentelemetry
    }

    /// Who is notified when a store fails.
    #[must_use]
    pub fn notifications(&self) -> &NotificationsConfig {
        &self.notifications
    }

    /// Sets the password of a store.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where there is no such store.
    pub fn set_password(&mut self, store: &str, password: impl Into<String>) -> Result<()> {
        let kind = self.kind(store)?;
        let password: String = password.into();
        self.passwords.insert(kind, password.into());
        Ok(())
    }

    /// Sets which variables secrets are looked up in. Default: those of the process.
    pub fn set_environment(&mut self, environment: Environment) {
        self.environment = environment;
    }

    /// Looks for all passwords and says where each comes from, in the order of the names of stores.
    #[must_use]
    pub fn credentials(&self) -> Vec<CredentialStatus> {
        let status = |(kind, section): (&Kind, &ServerSection)| {
            let secret = self.secret(*kind, section);
            let (origin, error) = match (self.passwords.contains_key(kind), secret) {
                (true, _) => (Origin::Program, None),
                (false, None) => (Origin::Nothing, None),
                (false, Some((field, secret))) => {
                    let error = secret.read().err().map(|error| in_field(&field, &error));
                    let source = secret.source().clone();
                    (Origin::Source { field, source }, error)
                }
            };
            CredentialStatus {
                store: kind.name(),
                username: section.username.clone(),
                origin,
                error,
            }
        };
        self.servers.iter().map(status).collect()
    }

    /// Sets whom a store with `tls: true` trusts, and who this side is there. Default: the authorities
    /// of the system, and nobody.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where there is no such store.
    pub fn set_tls(&mut self, store: &str, tls: TlsConfig) -> Result<()> {
        let kind = self.kind(store)?;
        self.tls.insert(kind, tls);
        Ok(())
    }

    /// One of the servers of the file, without a chain around it. It connects when it is first asked.
    ///
    /// # Errors
    /// [`Config`](StoreError::Config) where there is no such server, its URL is none or its password
    /// cannot be had.
    pub fn server(&self, store: &str) -> Result<RedisStore> {
        let kind = self.kind(store)?;
        match self.store(kind)? {
            Store::Redis(server) => Ok(server),
            _ => Err(wrong(format!("store.{store} is no server"))),
        }
    }

    fn kind(&self, store: &str) -> Result<Kind> {
        let found = self.servers.keys().find(|kind| kind.name() == store);
        found
            .copied()
            .ok_or_else(|| wrong(format!("there is no store.{store}")))
    }

    /// The password that the environment or the file has for a store, with the field it stands in.
    fn secret(&self, kind: Kind, section: &ServerSection) -> Option<(String, Secret)> {
        let name = kind.name();
        let variable = format!("VALKYRIE_{}_PASSWORD", name.to_ascii_uppercase());
        let (field, source) = if self.environment.variable(&variable).is_some() {
            (variable.clone(), SecretSource::Env(variable))
        } else if let Some(from) = &section.password_from {
            (format!("store.{name}.password_from"), from.source()?)
        } else {
            let armored = section.password_encrypted.clone();
            let source = SecretSource::Age {
                purpose: password_purpose(name),
                armored: armored.filter(|text| !text.is_empty())?,
            };
            (format!("store.{name}.password_encrypted"), source)
        };
        Some((field, Secret::new(source, self.environment.clone())))
    }

    /// How the values of a store are encoded; `None` where the file says nothing of it.
    fn codec(&self, kind: Kind, section: &ServerSection) -> Result<Option<CodecConfig>> {
        let from = section.encryption_key_from.as_ref();
        let from = from.and_then(SourceSection::source);
        if section.compression.is_none() && from.is_none() && !section.encoding_required {
            return Ok(None);
        }
        let mut codec = CodecConfig::default();
        if let Some(source) = from {
            let field = format!("store.{}.encryption_key_from", kind.name());
            let lines = Secret::new(source, self.environment.clone()).read();
            let lines = lines.map_err(|error| in_field(&field, &error))?;
            codec.keys =
                ValueKey::of_lines(&lines).map_err(|error| wrong(format!("{field}: {error}")))?;
        }
        codec.compression = section.compression.unwrap_or_default();
        codec.compress_from = section.compress_from_bytes.unwrap_or(codec.compress_from);
        if section.encoding_required {
            codec.unencoded = Unencoded::Refuse;
        }
        Ok(Some(codec))
    }

    fn store(&self, kind: Kind) -> Result<Store> {
        let Some(section) = self.servers.get(&kind) else {
            return Ok(MemoryStore::new().into());
        };
        let (password, password_from) =
            match (self.passwords.get(&kind), self.secret(kind, section)) {
                (Some(password), _) => (Some(password.clone()), None),
                (None, None) => (None, None),
                (None, Some((field, secret))) => {
                    let password = secret.read().map_err(|error| in_field(&field, &error))?;
                    (Some(password), Some(secret))
                }
            };
        let timeout = Duration::from_millis(section.timeout_ms);
        let config = RedisConfig {
            name: kind.name().to_owned(),
            url: section.url.clone(),
            username: section.username.clone(),
            password,
            password_from,
            topology: match section.cluster_mode {
                true => Topology::Cluster,
                false => Topology::Single,
            },
            tls: section
                .tls
                .then(|| self.tls.get(&kind).cloned().unwrap_or_default()),
            connections: section.pool_size,
            retries: section.max_retries,
            connect_timeout: timeout,
            timeout,
            codec: self.codec(kind, section)?,
            ..RedisConfig::default()
        };
        Store::open(&config)
    }

    pub(crate) fn build(&self) -> Result<HybridStore> {
        let stores: Result<Vec<Store>> = self.chain.iter().map(|kind| self.store(*kind)).collect();
        HybridStore::of(stores?, self.hybrid)
    }
}

fn in_field(field: &str, error: &CredentialError) -> StoreError {
    wrong(format!("{field}: {error}"))
}

fn check(kind: Kind, section: &ServerSection) -> Result<()> {
    let name = kind.name();
    let upper = name.to_ascii_uppercase();
    if section.password.is_some() {
        return Err(wrong(format!(
            "store.{name}.password: a password does not belong into a file; set VALKYRIE_{upper}_PASSWORD, \
             password_from, password_encrypted or StoreConfig::set_password"
        )));
    }
    let encrypted = section.password_encrypted.as_deref().unwrap_or_default();
    if !encrypted.is_empty() && !is_sealed(encrypted) {
        let error = in_field(
            &format!("store.{name}.password_encrypted"),
            &CredentialError::NotSealed,
        );
        return Err(error);
    }
    let sources = [
        ("password_from", &section.password_from),
        ("encryption_key_from", &section.encryption_key_from),
    ];
    for (field, from) in sources {
        if from.as_ref().is_some_and(|from| from.source().is_none()) {
            return Err(wrong(format!(
                "store.{name}.{field} is one of {{env: NAME}}, {{file: PATH}} and {{systemd: NAME}}"
            )));
        }
    }
    if section.password_from.is_some() && !encrypted.is_empty() {
        return Err(wrong(format!(
            "store.{name} has password_from and password_encrypted; leave one of them out"
        )));
    }
    if section.timeout_ms == 0 {
        return Err(wrong(format!(
            "store.{name}.timeout_ms is 0; set it to 1 or more"
        )));
    }
    if !(1..=64).contains(&section.pool_size) {
        let size = section.pool_size;
        return Err(wrong(format!(
            "store.{name}.pool_size is {size}; set it to 1 to 64"
        )));
    }
    Ok(())
}
