//! Two parties at the same time, each on a CPU of its own.

use crate::shared::Shared;
use crate::transport::Place;
use anyhow::{Context, Result, bail, ensure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

/// A party that has not ended by then hangs.
const WATCHDOG_SECONDS: u32 = 60;

/// What the two parties tell each other beside the transport.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Meeting {
    arrived: AtomicU32,
    done: AtomicU32,
}

impl Meeting {
    /// Returns once both parties are here.
    pub fn start(&self) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
    }

    /// Tells the other party that it has seen everything.
    pub fn finish(&self) {
        self.done.store(1, Ordering::Release);
    }

    /// Returns once the other party has seen everything.
    pub fn wait_for_finish(&self) {
        while self.done.load(Ordering::Acquire) == 0 {
            std::hint::spin_loop();
        }
    }
}

/// Runs `near` here and `far` in another thread or process, on `cpus`.
pub fn together<T>(
    place: Place,
    cpus: [usize; 2],
    near: impl FnOnce(&Meeting) -> Result<T>,
    far: impl FnOnce(&Meeting) -> Result<()> + Send,
) -> Result<T> {
    let meeting = Shared::new(Meeting::default())?;
    // SAFETY: an alarm's default action ends this process, and with it its child.
    unsafe { libc::alarm(WATCHDOG_SECONDS) };
    pin_to(cpus[0])?;
    let far = || pin_to(cpus[1]).and_then(|()| far(&meeting));
    let result = match place {
        Place::Threads => std::thread::scope(|scope| {
            let far = scope.spawn(far);
            let result = near(&meeting)?;
            far.join().expect("a panic was printed")?;
            Ok(result)
        }),
        Place::Processes => {
            let child = fork(far)?;
            let result = near(&meeting)?;
            wait_for(child)?;
            Ok(result)
        }
    };
    // SAFETY: as above.
    unsafe { libc::alarm(0) };
    result
}

/// Runs `child` in a new process, which ends with this one.
fn fork(child: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
    // SAFETY: no other thread exists while the parties are processes, so the child
    // may use everything.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: it takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let result = catch_unwind(AssertUnwindSafe(child));
        if let Ok(Err(error)) = &result {
            eprintln!("{error:#}");
        }
        let failed = !matches!(result, Ok(Ok(())));
        // SAFETY: the parent's exit handlers are not the child's business.
        unsafe { libc::_exit(failed.into()) };
    }
    if pid < 0 {
        return Err(std::io::Error::last_os_error()).context("fork");
    }
    Ok(pid)
}

fn wait_for(child: libc::pid_t) -> Result<()> {
    let mut status = 0;
    // SAFETY: the status is a local variable.
    let pid = unsafe { libc::waitpid(child, &raw mut status, 0) };
    ensure!(pid == child, "waitpid: {}", std::io::Error::last_os_error());
    if status != 0 {
        bail!("the other process failed (status {status:#x})");
    }
    Ok(())
}

/// Keeps the calling thread on one CPU.
pub fn pin_to(cpu: usize) -> Result<()> {
    // SAFETY: a zeroed set is an empty one; CPU_SET refuses numbers beyond it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set is read only, its size is its own.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    ensure!(result == 0, "CPU {cpu}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The CPUs this process may use.
pub fn allowed_cpus() -> Result<Vec<usize>> {
    // SAFETY: a zeroed set is an empty one; the kernel fills it.
    let (result, set) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), set)
    };
    ensure!(result == 0, "sched_getaffinity: {}", std::io::Error::last_os_error());
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: below the set's size.
    Ok(all.filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}
