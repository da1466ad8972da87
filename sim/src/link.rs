//! One end of a connection: a session over two pipes.

use valkyrie_frame::Time;
use valkyrie_session::{Role, Session, SessionConfig, Side};

use crate::{
    net::{ConnId, End},
    world::{Event, World},
};

/// A session and what belongs to it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conn: ConnId,
    pub(crate) session: Session,
    pub(crate) input: Vec<u8>,
    end: End,
    /// The timer that is set, so that none is set twice.
    timer: Option<Time>,
}

impl Link {
    pub(crate) fn new(conn: ConnId, end: End, world: &mut World) -> Self {
        let (side, role, node) = match end {
            End::Runner => (Side::Initiator, Role::RUNNER, "runner"),
            End::Server => (Side::Acceptor, Role::CONTROL_PLANE, "server"),
        };
        let config = SessionConfig {
            node: node.to_owned(),
            role,
            ..SessionConfig::default()
        };
        let mut session = Session::new(side, config, world.rng.bytes());
        session.tick(world.now);
        Self {
            conn,
            session,
            input: Vec::new(),
            end,
            timer: None,
        }
    }

    /// Sends what the session wants to send, and sets its timer.
    pub(crate) fn flush(&mut self, world: &mut World) {
        let mut bytes = Vec::new();
        while self.session.transmit(world.now, &mut bytes) > 0 {
            world.send(self.conn, self.end.other(), &bytes);
            bytes.clear();
        }
        if let Some(at) = self.session.poll_timeout() {
            let at = at.max(world.now);
            if self.timer.is_none_or(|set| at < set || set < world.now) {
                self.timer = Some(at);
                world.queue.at(
                    at,
                    Event::SessionTimer {
                        conn: self.conn,
                        end: self.end,
                    },
                );
            }
        }
    }

    /// Tells the session that its time may have come.
    pub(crate) fn timer(&mut self, world: &World) {
        if self.timer.is_some_and(|at| at <= world.now) {
            self.timer = None;
        }
        self.session.handle_timeout(world.now);
    }
}
