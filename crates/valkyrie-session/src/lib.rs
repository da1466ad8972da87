//! One Valkyrie connection as a pure state machine: negotiation, streams, calls, credit, priorities, heartbeat, close.
