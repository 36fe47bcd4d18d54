//! What `/proc` says about a process, and processes for tests to kill.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process, by its id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap_or_default()
    }

    /// CPU time it has used, user and system, in clock ticks (usually 10 ms).
    pub(crate) fn cpu_ticks(self) -> u64 {
        let stat = self.read("stat");
        // The name, in parentheses, may contain anything. After it: state is field
        // 3, utime 14, stime 15 (proc_pid_stat(5)).
        let fields = stat.rsplit(')').next().unwrap();
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<u64>().unwrap();
        ticks(14) + ticks(15)
    }

    /// CPU ticks it uses while `time` passes.
    pub(crate) fn cpu_ticks_during(self, time: Duration) -> u64 {
        let before = self.cpu_ticks();
        // Time is the subject here: what is measured is what happens during it.
        std::thread::sleep(time);
        self.cpu_ticks() - before
    }

    /// How many milliseconds its main thread sleeps in an epoll instance, if it does at the
    /// moment; -1 is for ever.
    pub(crate) fn sleeps_in_epoll_for(self) -> Option<i32> {
        let call = self.read("syscall");
        // The number of the call and its arguments (proc_pid_syscall(5)).
        let mut words = call.split_ascii_whitespace();
        let number: i64 = words.next()?.parse().ok()?;
        let timeout = words.nth(3)?.strip_prefix("0x")?;
        let timeout = u64::from_str_radix(timeout, 16).ok()? & u64::from(u32::MAX);
        let is_wait = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait].contains(&number);
        u32::try_from(timeout).ok().filter(|_| is_wait).map(u32::cast_signed)
    }

    /// How many eventfds its epoll instances watch.
    pub(crate) fn watched_eventfds(self) -> usize {
        let open = self.fd_links();
        let is = |number: &str, kind: &str| {
            open.iter()
                .any(|(fd, target)| fd == number && target == &format!("anon_inode:[{kind}]"))
        };
        let infos = open.iter().filter(|(fd, _)| is(fd, "eventpoll"));
        let infos: Vec<String> = infos.map(|(fd, _)| self.read(&format!("fdinfo/{fd}"))).collect();
        let watched = infos
            .iter()
            .flat_map(|info| info.lines())
            .filter_map(|line| line.strip_prefix("tfd:")?.split_ascii_whitespace().next());
        watched.filter(|fd| is(fd, "eventfd")).count()
    }

    /// Its open file descriptors.
    pub(crate) fn fds(self) -> usize {
        self.fd_targets().len()
    }

    /// Those of its file descriptors that are regions.
    pub(crate) fn region_fds(self) -> usize {
        self.fd_targets().iter().filter(|target| is_region(target)).count()
    }

    /// Those that are none, of which some are always made ahead.
    pub(crate) fn fds_beside_regions(self) -> usize {
        self.fd_targets().iter().filter(|target| !is_region(target)).count()
    }

    /// The names of its threads.
    pub(crate) fn threads(self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
        names.map(|name| name.unwrap_or_default().trim_end().to_owned()).collect()
    }

    fn fd_targets(self) -> Vec<String> {
        self.fd_links().into_iter().map(|(_, target)| target).collect()
    }

    /// The numbers of its file descriptors, and what they are of.
    fn fd_links(self) -> Vec<(String, String)> {
        let Ok(directory) = fs::read_dir(format!("/proc/{}/fd", self.0)) else { return Vec::new() };
        let link = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((entry.file_name().to_string_lossy().into_owned(), target))
        };
        directory.filter_map(Result::ok).filter_map(link).collect()
    }

    /// The highest number of an open file descriptor.
    pub(crate) fn highest_fd(self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap();
        let numbers = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse());
        numbers.map(Result::unwrap).max().unwrap()
    }

    /// Its mappings.
    pub(crate) fn maps(self) -> usize {
        self.read("maps").lines().count()
    }

    /// Those of its mappings that are regions.
    pub(crate) fn region_maps(self) -> usize {
        self.read("maps").lines().filter(|line| is_region(line)).count()
    }

    /// Memory it keeps resident, in KiB.
    pub(crate) fn resident_kib(self) -> u64 {
        self.status_number("VmRSS")
    }

    fn status_number(self, name: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processes it forked and that still run.
    pub(crate) fn children(self) -> Vec<Self> {
        let children = self.read(&format!("task/{}/children", self.0));
        children.split_ascii_whitespace().map(|id| Self(id.parse().unwrap())).collect()
    }

    /// Limits how large the files are that it makes from now on.
    pub(crate) fn limit_file_bytes(self, bytes: u64) {
        self.limit(libc::RLIMIT_FSIZE, bytes);
    }

    /// Limits the numbers of the file descriptors that it makes from now on.
    pub(crate) fn limit_fds(self, count: usize) {
        self.limit(libc::RLIMIT_NOFILE, count as u64);
    }

    /// Sets the soft limit; the hard one stays, so that it can be raised again.
    fn limit(self, resource: libc::__rlimit_resource_t, soft: u64) {
        let id = libc::pid_t::try_from(self.0).unwrap();
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one rlimit.
        let got = unsafe { libc::prlimit(id, resource, std::ptr::null(), &raw mut limits) };
        limits.rlim_cur = soft.min(limits.rlim_max);
        // SAFETY: reads one rlimit.
        let set = unsafe { libc::prlimit(id, resource, &raw const limits, std::ptr::null_mut()) };
        assert_eq!((got, set), (0, 0));
    }

    /// Stops it, as SIGSTOP does.
    pub(crate) fn stop(self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on after [`Process::stop`].
    pub(crate) fn go_on(self) {
        self.signal(libc::SIGCONT);
    }

    /// Asks it to end.
    pub(crate) fn terminate(self) {
        self.signal(libc::SIGTERM);
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(self) -> bool {
        let stat = self.read("stat");
        stat.rsplit(')').next().is_some_and(|fields| !fields.trim_start().starts_with('Z'))
    }

    fn signal(self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.0).unwrap();
        // SAFETY: takes no pointer; the caller's own child, not yet reaped.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }
}

fn is_region(file: &str) -> bool {
    file.contains("memfd:shm-fifo")
}

/// CPU time that the calling thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

/// A second process, which runs one `#[ignore]`d test of this same binary. Killed
/// when dropped.
#[derive(Debug)]
pub(crate) struct OtherProcess(Child);

impl OtherProcess {
    const ARGUMENT: &str = "SHM_FIFO_OTHER_PROCESS";

    /// Runs the test `name` and gives it `argument`.
    pub(crate) fn run(name: &str, argument: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(Self::ARGUMENT, argument)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Within such a test: its argument. `None` if a person ran all the ignored
    /// tests, who then sees them pass and do nothing.
    pub(crate) fn argument() -> Option<String> {
        std::env::var(Self::ARGUMENT).ok()
    }

    /// Kills it as `kill -9` does, and waits until it is dead.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
