//! Every way to carry a message that is measured.

pub mod copied;
pub mod crossbeam;
#[cfg(feature = "iceoryx2")]
pub mod iceoryx;
pub mod limit;
pub mod photon;
pub mod rings;
pub mod shm;
pub mod sockets;
