//! What interposers are made of: that of the server's, [`vfd`](crate::vfd), and the library that
//! programs preload. It is hidden because nobody else needs it, and may change in any version.

mod fd_table;
pub mod pace;
mod page_memory;
mod yielding_mutex;

pub use fd_table::FdTable;
pub use yielding_mutex::YieldingMutex;
