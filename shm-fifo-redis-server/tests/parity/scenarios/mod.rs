//! What needs several connections, or ends one.

mod access;
mod blocking;
mod introspection;
mod large;
mod lifecycle;
mod limits;
mod protocol;
mod pubsub;
mod roles;
mod scripting;
mod tracking;
