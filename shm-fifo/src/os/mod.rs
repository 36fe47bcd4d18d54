//! What Linux adds to the core: shared regions, doorbells and waiting.

pub(crate) mod channel;
pub(crate) mod connect;
pub(crate) mod credentials;
pub mod doorbell;
pub(crate) mod duplex;
pub(crate) mod endpoint;
pub mod fd_passing;
pub(crate) mod fork;
pub(crate) mod halves;
mod in_place;
pub(crate) mod listener;
pub(crate) mod mapping;
pub(crate) mod notifier;
pub(crate) mod offer;
pub(crate) mod overcommit;
pub(crate) mod published;
pub(crate) mod region;
mod sealed_file;
pub(crate) mod sys;
pub(crate) mod token;
pub(crate) mod wait;
