//! Moving links to other transports: who offers, who takes, and how the two ends meet.
//!
//! The offerer's new transport comes in at a listener of its shard like any other connection; the
//! token in its HELLO says which link it belongs to.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use valkyrie_frame::limits::{HEADER_BYTES, PRE_AUTH_PAYLOAD_BYTES_MAX};
use valkyrie_frame::{ErrorCode, Time};
use valkyrie_session::{Joining, Resume, SendError, Violation};
use valkyrie_transport::{Connection, Endpoint};

use crate::clock;
use crate::link::{Inner, Link};
use crate::serve::random;

/// Whether a link may move to another transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// It stays where it is; the peer is told so when the connection begins.
    #[default]
    Never,
    /// This side may offer its peer another transport, and declines what the peer offers.
    Offer,
    /// This side also connects where its peer wants it to: only for peers that may choose.
    Take,
}

/// Why a transport could not be offered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The session does not allow it.
    #[error("offer not sent: {0}")]
    Send(#[from] SendError),
    /// Too many offers of this shard are open.
    #[error("{OFFERS_MAX} offers of this shard are open already; wait for some to end")]
    TooMany,
    /// The system has no randomness to give.
    #[error("no randomness: {0}")]
    Random(String),
}

/// Offers of one shard that may be open at once.
const OFFERS_MAX: usize = 1024;
/// How long a taker tries to connect and to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer on the new transport.
const ANSWER_BYTES_MAX: usize = HEADER_BYTES + PRE_AUTH_PAYLOAD_BYTES_MAX as usize;

/// An offer of a link of this shard.
#[derive(Debug)]
struct Offer {
    link: Weak<Inner>,
    until: Time,
}

thread_local! {
    static OFFERS: RefCell<Vec<Offer>> = const { RefCell::new(Vec::new()) };
}

impl Link {
    /// Offers the peer to go on over the transport of `endpoint`, at which [`serve`](crate::serve)
    /// of this shard takes connections. Whether the peer does is told by
    /// [`Moved`](crate::Event::Moved) or [`UpgradeDeclined`](crate::Event::UpgradeDeclined); until
    /// then, and for good when nothing comes within `valid`, the link stays where it is.
    ///
    /// # Errors
    /// See [`OfferError`]; nothing was sent.
    pub fn offer_upgrade(&self, endpoint: &Endpoint, valid: Duration) -> Result<(), OfferError> {
        let token = random().map_err(OfferError::Random)?;
        let now = clock::now();
        let is_open =
            |offer: &Offer| offer.until > now && offer.link.upgrade().is_some_and(|l| l.is_open());
        let open = OFFERS.with_borrow_mut(|offers| {
            offers.retain(is_open);
            offers.len()
        });
        if open >= OFFERS_MAX {
            return Err(OfferError::TooMany);
        }
        self.session()
            .offer_upgrade(&endpoint.to_string(), token, valid)?;
        let offer = Offer {
            link: Rc::downgrade(self.inner()),
            until: now + valid,
        };
        OFFERS.with_borrow_mut(|offers| offers.push(offer));
        Ok(())
    }
}

/// The link that the token belongs to; the offer is used up. Every open offer is compared with
/// the token, each in constant time.
pub(crate) fn redeem(resume: &Resume) -> Option<Link> {
    let offers = OFFERS.take();
    let links = offers.iter().filter_map(|offer| offer.link.upgrade());
    let mut found = None;
    for link in links.map(Link::from_inner) {
        if link.session().redeem(&resume.token) {
            found = Some(link);
        }
    }
    let of_found = |offer: &Offer| {
        let link = found.as_ref().map(Link::inner);
        link.is_some_and(|inner| offer.link.as_ptr() == Rc::as_ptr(inner))
    };
    OFFERS.with_borrow_mut(|open| open.extend(offers.into_iter().filter(|o| !of_found(o))));
    found
}

/// The offerer's side: answers on the new transport and gives it to the link.
pub(crate) async fn welcome(link: Link, resume: Resume, mut connection: Connection) {
    let answer = match random() {
        Ok(random) => link.session().welcome(&resume, random),
        Err(error) => return give_up(&link, &error),
    };
    match timeout(PATIENCE, connection.write_all(&answer)).await {
        Ok(Ok(())) => link.arrive(connection),
        Ok(Err(error)) => give_up(&link, &error.to_string()),
        Err(_) => give_up(&link, "the peer takes no bytes"),
    }
}

fn give_up(link: &Link, reason: &str) {
    tracing::debug!(conn = link.id(), reason, "new transport failed");
    link.session().forget_move();
}

/// Why a new transport is of no use to the taker.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("{0}")]
    Endpoint(#[from] valkyrie_transport::EndpointError),
    #[error("{0}")]
    Connect(#[from] valkyrie_transport::ConnectError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no randomness: {0}")]
    Random(String),
    #[error("{0}")]
    Answer(#[from] Violation),
    #[error("the other side closed it without an answer")]
    Refused,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl JoinError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::Endpoint(_) => ErrorCode::MALFORMED,
            Self::Connect(_) | Self::Io(_) | Self::Refused => ErrorCode::UNREACHABLE,
            Self::Random(_) => ErrorCode::INTERNAL,
            Self::Answer(violation) => violation.code(),
            Self::Timeout => ErrorCode::TIMEOUT,
        }
    }
}

/// The taker's side: connects where the offer says, shows the token, and begins the move.
pub(crate) async fn take(link: Link, endpoint: String, token: [u8; 32], valid: Duration) {
    let joined = timeout(valid.min(PATIENCE), join(&link, &endpoint, &token)).await;
    match joined.unwrap_or(Err(JoinError::Timeout)) {
        Ok(connection) => {
            link.arrive(connection);
            // When the offer ended meanwhile, the new transport is closed unused.
            link.session().leave();
        }
        Err(error) => {
            tracing::debug!(conn = link.id(), endpoint, %error, "offered transport not usable");
            let mut session = link.session();
            session.decline_upgrade(error.code(), &error.to_string());
        }
    }
}

async fn join(link: &Link, endpoint: &str, token: &[u8; 32]) -> Result<Connection, JoinError> {
    let endpoint: Endpoint = endpoint.parse()?;
    let random = random().map_err(JoinError::Random)?;
    let joining: Joining = link.session().joining(token, random);
    let mut connection = valkyrie_transport::connect(&endpoint).await?;
    connection.write_all(joining.hello()).await?;
    let mut answer = Vec::new();
    while !joining.check(&answer)? {
        let mut part = [0; 1024];
        let count = connection.read(&mut part).await?;
        if count == 0 || answer.len() + count > ANSWER_BYTES_MAX {
            return Err(JoinError::Refused);
        }
        answer.extend_from_slice(part.get(..count).unwrap_or_default());
    }
    Ok(connection)
}
