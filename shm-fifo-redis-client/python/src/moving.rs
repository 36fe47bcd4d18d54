//! A connection on its way to shared memory.

use crate::errors;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::net::{AddressFamily, sockopt::socket_domain};
use shm_fifo_redis_client::{self as client, Attempt, Interest, MoveError, Progress};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// Asks the server behind a connected socket to go on in shared memory. Never waits.
///
/// No reply may be outstanding. It has a copy of the descriptor: the socket stays its owner's,
/// who must not read or write it meanwhile.
#[pyclass(module = "shm_fifo_redis._native")]
pub(crate) struct Moving {
    // Whoever calls has it alone (`&mut self`): the mutex is for the compiler, and never locked.
    moving: Mutex<Option<client::Moving>>,
    fd: RawFd,
}

#[pymethods]
impl Moving {
    #[new]
    fn new(socket: RawFd) -> PyResult<Self> {
        let stream = stream_over(socket).map_err(|error| errors::of_socket(&error))?;
        let moving = client::Moving::begin(stream).map_err(|error| errors::of_moving(&error))?;
        let fd = moving.as_raw_fd();
        Ok(Self { moving: Mutex::new(Some(moving)), fd })
    }

    /// What to poll for before the next call, as `select.poll` has it; 0 once it is decided.
    fn advance(&mut self) -> PyResult<i16> {
        let Some(moving) = self.moving_mut() else { return Ok(0) };
        match moving.advance().map_err(|error| errors::of_moving(&error))? {
            Progress::Decided => Ok(0),
            Progress::Waiting(interest) => Ok(events(interest)),
        }
    }

    /// The descriptor to be polled.
    fn fileno(&self) -> RawFd {
        self.fd
    }
}

impl Moving {
    fn moving_mut(&mut self) -> &mut Option<client::Moving> {
        self.moving.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended; once.
    pub(crate) fn take(&mut self) -> PyResult<Attempt> {
        let taken = || PyValueError::new_err("this move was taken already");
        let moving = self.moving_mut().take().ok_or_else(taken)?;
        moving.into_attempt().map_err(|error| match error {
            MoveError::TimedOut => PyValueError::new_err("this move is not decided"),
            error => errors::of_moving(&error),
        })
    }
}

fn events(interest: Interest) -> i16 {
    let readable = if interest.readable { libc::POLLIN } else { 0 };
    let writable = if interest.writable { libc::POLLOUT } else { 0 };
    readable | writable
}

fn stream_over(socket: RawFd) -> io::Result<client::Stream> {
    let copy = copy_of(socket)?;
    match socket_domain(&copy)? {
        AddressFamily::UNIX => Ok(UnixStream::from(copy).into()),
        AddressFamily::INET | AddressFamily::INET6 => Ok(TcpStream::from(copy).into()),
        _ => Err(io::Error::other("the connection is neither a unix nor a TCP socket")),
    }
}

#[allow(unsafe_code)]
fn copy_of(socket: RawFd) -> io::Result<OwnedFd> {
    if socket < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is no -1, and only copied: a number that is not open fails there.
    unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned()
}
