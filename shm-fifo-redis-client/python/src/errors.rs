//! Errors as those of Python's sockets.

use pyo3::exceptions::{PyConnectionError, PyOSError, PyTimeoutError};
use pyo3::prelude::*;
use shm_fifo_redis_client::MoveError;
use std::io::{Error, ErrorKind};

/// With an `errno`, by which Python chooses the class: `BlockingIOError`, `BrokenPipeError`.
pub(crate) fn of_socket(error: &Error) -> PyErr {
    let errno = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::TimedOut, _) => return PyTimeoutError::new_err("timed out"),
        (_, Some(errno)) => errno,
        (ErrorKind::WouldBlock, _) => libc::EAGAIN,
        (ErrorKind::BrokenPipe, _) => libc::EPIPE,
        (ErrorKind::InvalidData, _) => libc::EPROTO,
        _ => libc::EIO,
    };
    PyOSError::new_err((errno, error.to_string()))
}

pub(crate) fn inherited() -> PyErr {
    PyOSError::new_err((libc::EPIPE, "the connection belongs to the process that forked this one"))
}

pub(crate) fn of_moving(error: &MoveError) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}
