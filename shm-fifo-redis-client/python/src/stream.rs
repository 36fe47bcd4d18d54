//! A connection that has moved, with the methods of a socket.

use crate::bytes;
use crate::errors;
use crate::forks::Generation;
use crate::moving::Moving;
use crate::waiting::{Patience, Shared, State, Woken};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyByteArray, PyBytes};
use shm_fifo_redis_client::{Attempt, Interest, SpinPolicy, WaitMode};
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::time::Duration;

/// A connection that was asked to move: in shared memory, or on its socket, and then with what
/// came meanwhile.
///
/// Its methods are those of a `socket`, as far as redis-py calls them; those at the end are for
/// event loops and never wait. It is for any number of threads, and not for forked children.
#[pyclass(frozen, subclass, module = "shm_fifo_redis._native")]
pub(crate) struct Stream {
    shared: Shared,
    refusal: Option<String>,
    made_by: Generation,
    timeout: Mutex<Option<Duration>>,
}

/// The longest that a turn of an event loop spins.
const LOOP_SPIN_NS: u64 = 16_000;

#[pymethods]
impl Stream {
    #[new]
    fn new(moving: &mut Moving) -> PyResult<Self> {
        let (stream, refusal) = match moving.take()? {
            Attempt::Moved(stream) => (stream, None),
            Attempt::Stayed(stream, refusal) => (stream, Some(refusal.to_string())),
        };
        Ok(Self {
            shared: Shared::new(stream),
            refusal,
            made_by: Generation::now(),
            timeout: Mutex::new(None),
        })
    }

    /// What carries it: `shm`, `unix` or `tcp`.
    #[getter]
    fn transport(&self) -> String {
        self.shared.transport().to_string()
    }

    /// Why it is still on its socket.
    #[getter]
    fn not_moved(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The socket, which carries doorbells; -1 once it is closed, and in a forked child.
    fn fileno(&self, py: Python<'_>) -> RawFd {
        if self.is_inherited() { -1 } else { locked(py, self.shared.state()).fd() }
    }

    /// Seconds that `recv` and `sendall` wait at most; 0 is not at all, `None` for ever.
    fn settimeout(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.check_process()?;
        *locked(py, &self.timeout) = timeout.map(duration).transpose()?;
        Ok(())
    }

    fn gettimeout(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.check_process()?;
        Ok(locked(py, &self.timeout).map(|timeout| timeout.as_secs_f64()))
    }

    /// Sends all of it. If it fails, nobody knows how much was sent.
    fn sendall(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = bytes::of(data)?;
        let mut left = data.as_bytes();
        let mut patience = self.patience(py)?;
        while !left.is_empty() {
            let write = |state: &mut State| state.stream()?.try_write(left);
            left = &left[self.repeat(py, Interest::WRITABLE, &mut patience, write)?..];
            patience.renew();
        }
        Ok(())
    }

    /// Receives what there is, at most `limit` bytes; none at the end. The only flag is `MSG_PEEK`,
    /// which shows a byte.
    #[pyo3(signature = (limit, flags = 0))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        flags: i32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let read = |state: &mut State| match flags {
            libc::MSG_PEEK => Ok(PyBytes::new(py, state.peek()?.as_slice())),
            _ => bytes::read_new(py, limit, |target| state.read(target)),
        };
        self.repeat(py, Interest::READABLE, &mut self.patience(py)?, read)
    }

    /// As `recv`, into the beginning of a buffer; how many bytes.
    #[pyo3(signature = (target, limit = 0))]
    fn recv_into(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyByteArray>,
        limit: usize,
    ) -> PyResult<usize> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let read = |state: &mut State| bytes::read_into(target, limit, |target| state.read(target));
        self.repeat(py, Interest::READABLE, &mut self.patience(py)?, read)
    }

    /// Waits for something to read, or the end, so many seconds at most; whether there is.
    #[pyo3(signature = (timeout = Some(0.0)))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let mut patience = Patience::new(timeout.map(duration).transpose()?);
        loop {
            match self.attempt(py, State::peek)? {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => return Ok(true),
            }
            match self.wait_once(py, Interest::READABLE, &mut patience)? {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(false);
                }
                waited => waited.map_err(|error| errors::of_socket(&error))?,
            }
        }
    }

    /// Whether there is something to read, and not the end.
    fn pending(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(matches!(self.attempt(py, State::peek)?, Ok(Some(_))))
    }

    /// Ends it, for all threads: in both directions, whatever is asked.
    fn shutdown(&self, py: Python<'_>, _how: i32) -> PyResult<()> {
        let ended = self.attempt(py, |state| {
            state.stream()?.shut_down();
            Ok(())
        })?;
        ended.map_err(|error| errors::of_socket(&error))
    }

    /// Ends it and gives back what it takes. In a forked child the parent's goes on.
    fn close(&self, py: Python<'_>) {
        if !self.is_inherited() {
            py.detach(|| self.shared.close());
        }
    }

    /// Has spins that suit an event loop, which has others to serve.
    fn join_loop(&self, py: Python<'_>) -> PyResult<()> {
        self.now(py, |state| {
            state.stream()?.set_policy(SpinPolicy::new(WaitMode::Adaptive, LOOP_SPIN_NS));
            Ok(())
        })
    }

    /// What there is to read, none at the end; `None` if there is nothing yet.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let read = |state: &mut State| {
            bytes::read_new(py, bytes::MOST, |target| state.read(target)).map(Some)
        };
        self.now(py, |state| unless_it_would_block(read(state), None))
    }

    /// Sends as much as there is space for of what begins at `start`; how many bytes.
    fn put(&self, py: Python<'_>, data: &Bound<'_, PyBytes>, start: usize) -> PyResult<usize> {
        let left = data.as_bytes().get(start..).unwrap_or_default();
        self.now(py, |state| unless_it_would_block(state.stream()?.try_write(left), 0))
    }

    /// Spins for something to read, where that pays; whether there is something.
    fn spin(&self, py: Python<'_>) -> PyResult<bool> {
        self.check_process()?;
        py.detach(|| self.shared.spin(Interest::READABLE))
            .map_err(|error| errors::of_socket(&error))
    }

    /// Announces that this side sleeps until something can be read, or sent if `writable`; then
    /// the descriptor becomes readable. False if it need not.
    fn park(&self, py: Python<'_>, writable: bool) -> PyResult<bool> {
        let interest = if writable { Interest::WRITABLE } else { Interest::READABLE };
        self.now(py, |state| Ok(state.stream()?.park(interest)))
    }

    /// Takes doorbells off the descriptor.
    fn listen(&self, py: Python<'_>) -> PyResult<()> {
        self.now(py, |state| {
            state.listen();
            Ok(())
        })
    }
}

impl Stream {
    /// Whether this is a forked child of the process that made it. No lock is to be taken there:
    /// a thread that is not there any more may have it.
    fn is_inherited(&self) -> bool {
        self.made_by != Generation::now()
    }

    fn check_process(&self) -> PyResult<()> {
        if self.is_inherited() { Err(errors::inherited()) } else { Ok(()) }
    }

    fn patience(&self, py: Python<'_>) -> PyResult<Patience> {
        self.check_process()?;
        Ok(Patience::new(*locked(py, &self.timeout)))
    }

    /// Does something with the stream that waits for nothing and calls nothing of Python's.
    fn attempt<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> PyResult<io::Result<T>> {
        self.check_process()?;
        Ok(work(&mut locked(py, self.shared.state())))
    }

    fn now<T>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> PyResult<T> {
        self.attempt(py, work)?.map_err(|error| errors::of_socket(&error))
    }

    /// Repeats it until it would not block, and waits in between.
    fn repeat<T>(
        &self,
        py: Python<'_>,
        interest: Interest,
        patience: &mut Patience,
        mut work: impl FnMut(&mut State) -> io::Result<T>,
    ) -> PyResult<T> {
        loop {
            match self.attempt(py, &mut work)? {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done.map_err(|error| errors::of_socket(&error)),
            }
            self.wait_once(py, interest, patience)?.map_err(|error| errors::of_socket(&error))?;
        }
    }

    /// One step of waiting, in which the interpreter is free for others. The outer error is what
    /// a signal's handler has raised.
    fn wait_once(
        &self,
        py: Python<'_>,
        interest: Interest,
        patience: &mut Patience,
    ) -> PyResult<io::Result<()>> {
        match py.detach(|| self.shared.wait_once(interest, patience)) {
            Ok(Woken::Look) => Ok(Ok(())),
            Ok(Woken::Signal) => py.check_signals().map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Locks it; who has it locked does not wait for the interpreter.
fn locked<'m, T>(py: Python<'_>, mutex: &'m Mutex<T>) -> std::sync::MutexGuard<'m, T> {
    mutex.lock_py_attached(py).unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn unless_it_would_block<T>(result: io::Result<T>, instead: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(instead),
        done => done,
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    let refused = |_| PyValueError::new_err("a timeout is a number of seconds, 0 or more");
    // What is too long for a clock is for ever.
    Duration::try_from_secs_f64(seconds.min(1e9)).map_err(refused)
}
