//! Tokens by which a job asks the API: signed here, bound to one attempt and what its `permissions`
//! name, and worth nothing once the attempt is over.
//!
//! A token is `rustci_job_<claims>_<HMAC-SHA256 of them>`, both in hex digits. It says nothing that
//! its job does not know; only the signature makes it a token. Whether the attempt still runs is
//! asked of the scheduler each time, so nothing has to be revoked.

use std::collections::BTreeMap;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rustci_pipeline::Access;
use rustci_scheduler::{AttemptToken, Fence, JobId};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hex;
use crate::token::ApiToken;

const PREFIX: &str = "rustci_job_";
/// Longer texts are no tokens: a project's name is the largest part, twice as long in hex digits.
const TOKEN_BYTES_MAX: usize = 4_096;

/// A part of the API that `permissions` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApiScope {
    /// Runs, their logs and results.
    Runs,
    /// Artifacts.
    Artifacts,
    /// Caches.
    Caches,
}

impl ApiScope {
    const ALL: [Self; 3] = [Self::Runs, Self::Artifacts, Self::Caches];

    /// The name in `permissions`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Artifacts => "artifacts",
            Self::Caches => "caches",
        }
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobClaims {
    pub(crate) run: u64,
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) project: String,
    /// Whether each may be changed as well as read.
    pub(crate) scopes: BTreeMap<ApiScope, Access>,
}

impl JobClaims {
    /// The attempt it is bound to.
    pub(crate) fn attempt(&self) -> AttemptToken {
        AttemptToken {
            job: JobId(self.job),
            attempt: self.attempt,
            fence: Fence(self.fence),
        }
    }

    /// Whether it may do this.
    pub(crate) fn allows(&self, scope: ApiScope, access: Access) -> bool {
        matches!(
            (self.scopes.get(&scope), access),
            (Some(Access::Write), _) | (Some(Access::Read), Access::Read)
        )
    }
}

/// Signs and checks tokens of jobs.
#[derive(Clone)]
pub struct JobTokens {
    key: Zeroizing<[u8; 32]>,
    /// Where jobs find the API; without one they get no tokens.
    url: Option<String>,
}

impl fmt::Debug for JobTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobTokens({:?})", self.url)
    }
}

/// What a job gets.
#[derive(Debug)]
pub(crate) struct Issued<'t> {
    pub(crate) url: &'t str,
    pub(crate) token: String,
}

impl JobTokens {
    /// Tokens under a key that follows from the token of the API: another one of those, and all of
    /// these are worth nothing.
    pub(crate) fn new(token: &ApiToken, url: Option<String>) -> Self {
        let key = blake3::derive_key("rustci: key of job tokens", token.expose().as_bytes());
        Self {
            key: Zeroizing::new(key),
            url,
        }
    }

    /// The token of an attempt, if its permissions name a part of the API.
    pub(crate) fn issue(
        &self,
        attempt: AttemptToken,
        (run, project): (u64, &str),
        permissions: &BTreeMap<String, Access>,
    ) -> Option<Issued<'_>> {
        let url = self.url.as_deref()?;
        let scopes = scopes(permissions);
        if scopes.is_empty() {
            return None;
        }
        let claims = JobClaims {
            run,
            job: attempt.job.0,
            attempt: attempt.attempt,
            fence: attempt.fence.0,
            project: project.to_owned(),
            scopes,
        };
        let claims = serde_json::to_vec(&claims).ok()?;
        let signature = self.mac(&claims).finalize().into_bytes();
        let token = format!(
            "{PREFIX}{}_{}",
            hex::encode(&claims),
            hex::encode(&signature)
        );
        Some(Issued { url, token })
    }

    /// What an offered token says, if it was signed here. The attempt may be over.
    pub(crate) fn check(&self, offered: &str) -> Option<JobClaims> {
        let text = offered.strip_prefix(PREFIX)?;
        let (claims, signature) = text
            .split_once('_')
            .filter(|_| offered.len() <= TOKEN_BYTES_MAX)?;
        let (claims, signature) = (hex::decode(claims)?, hex::decode(signature)?);
        // Compares in a time that does not depend on where they differ.
        self.mac(&claims).verify_slice(&signature).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("HMAC takes any key");
        mac.update(claims);
        mac
    }
}

/// Whether a job with these permissions gets a token.
#[must_use]
pub fn needs_api(permissions: &BTreeMap<String, Access>) -> bool {
    !scopes(permissions).is_empty()
}

fn scopes(permissions: &BTreeMap<String, Access>) -> BTreeMap<ApiScope, Access> {
    let named = ApiScope::ALL.into_iter().filter_map(|scope| {
        let access = permissions.get(scope.as_str())?;
        matches!(access, Access::Read | Access::Write).then_some((scope, *access))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(dir: &std::path::Path) -> JobTokens {
        let token = ApiToken::load_or_create(dir).unwrap();
        JobTokens::new(&token, Some("http://h".to_owned()))
    }

    fn attempt() -> AttemptToken {
        AttemptToken {
            job: JobId(7),
            attempt: 2,
            fence: Fence(9),
        }
    }

    fn permissions(pairs: &[(&str, Access)]) -> BTreeMap<String, Access> {
        pairs
            .iter()
            .map(|(name, access)| ((*name).to_owned(), *access))
            .collect()
    }

    #[test]
    fn a_token_says_what_was_signed_and_nothing_else_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = tokens(dir.path());
        let asked = permissions(&[("runs", Access::Read), ("caches", Access::Write)]);
        let issued = tokens.issue(attempt(), (3, "shop"), &asked).unwrap();
        let claims = tokens.check(&issued.token).unwrap();
        assert_eq!(
            (claims.run, claims.attempt(), claims.project.as_str()),
            (3, attempt(), "shop")
        );
        assert!(claims.allows(ApiScope::Runs, Access::Read));
        assert!(!claims.allows(ApiScope::Runs, Access::Write));
        assert!(claims.allows(ApiScope::Caches, Access::Write));
        assert!(!claims.allows(ApiScope::Artifacts, Access::Read));
        // Any other claims, any other signature.
        let text = issued.token.as_bytes();
        for at in PREFIX.len()..text.len() {
            let mut bent = text.to_vec();
            bent[at] = if bent[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(
                tokens.check(&String::from_utf8(bent).unwrap()),
                None,
                "byte {at}"
            );
        }
        for text in ["", "rustci_job_", "rustci_job__", &issued.token[..40]] {
            assert_eq!(tokens.check(text), None);
        }
        let other = tempfile::tempdir().unwrap();
        assert_eq!(self::tokens(other.path()).check(&issued.token), None);
        assert!(!format!("{tokens:?}").contains(&hex::encode(&*tokens.key)));
    }

    #[test]
    fn without_a_part_of_the_api_there_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = tokens(dir.path());
        for asked in [
            permissions(&[]),
            permissions(&[("contents", Access::Write)]),
            permissions(&[("runs", Access::None)]),
        ] {
            assert!(tokens.issue(attempt(), (3, "shop"), &asked).is_none());
        }
    }
}
