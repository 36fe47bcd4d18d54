//! Python's bytes, and where they are for the moment in which a stream is read.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use std::cell::RefCell;
use std::io;

/// More is for the next call.
pub(crate) const MOST: usize = 1 << 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST]);
}

/// At most `limit` bytes that `read` has read, which calls nothing of Python's.
pub(crate) fn read_new<'py>(
    py: Python<'py>,
    limit: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<Bound<'py, PyBytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = read(&mut scratch[..limit.min(MOST)])?;
        Ok(PyBytes::new(py, &scratch[..count]))
    })
}

/// Reads into the first `limit` bytes of `target` by `read`, which calls nothing of Python's.
#[allow(unsafe_code)]
pub(crate) fn read_into(
    target: &Bound<'_, PyByteArray>,
    limit: usize,
    read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    // SAFETY: this thread is attached to the interpreter until `read` has returned, and that
    // calls nothing by which another thread, or code of Python's, could come to change it.
    let target = unsafe { target.as_bytes_mut() };
    let limit = limit.min(target.len());
    read(&mut target[..limit])
}

/// The bytes of any object that has some: redis-py sends large arguments as `memoryview`.
pub(crate) fn of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.clone()),
        Err(_) => Ok(data.py().get_type::<PyBytes>().call1((data,))?.cast_into()?),
    }
}
