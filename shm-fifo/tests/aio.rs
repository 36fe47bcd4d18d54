//! Channels as asynchronous streams: on tokio, on smol's reactor, and polled by hand.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use futures_lite::future::{poll_once, yield_now, zip};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_fifo::aio::{AsyncChannel, Reactor, Tokio};
use shm_fifo::testing::{is_pattern, pattern};
use shm_fifo::{Channel, Region, SpinPolicy, WaitMode, doorbell::EventDoorbells};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;
use support::process::{channel_over, channel_to_process, roles};
use support::{Random, Watchdog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

roles! { exchange_as_process, write_and_wait }

const RING_BYTES: usize = 4096;
/// Where the attacher's position is in what it reads, by `docs/layout.md`.
const HEAD_OF_ATTACHER: u64 = 1536 + 128;
/// What each side of an exchange sends.
const TOTAL_BYTES: usize = 3_000_000;

fn policies() -> [SpinPolicy; 3] {
    let modes = [WaitMode::Adaptive, WaitMode::Park, WaitMode::Spin];
    modes.map(|mode| SpinPolicy::new(mode, 200_000))
}

fn runtimes() -> [Runtime; 2] {
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    [one, Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()]
}

/// As the examples of the documentation do it.
fn for_smol(channel: Channel) -> AsyncChannel<impl Reactor + Unpin> {
    let doorbell = async_io::Async::new(channel.as_fd().try_clone_to_owned().unwrap()).unwrap();
    AsyncChannel::new(channel, move |context: &mut Context<'_>| doorbell.poll_readable(context))
}

/// Two ends that are woken by eventfds.
fn pair_with_events() -> (Channel, Channel) {
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let [here, there] = EventDoorbells::pair().unwrap();
    let here = Channel::with_events(created.into_endpoint(), here);
    (here, Channel::with_events(attached.into_endpoint(), there))
}

/// Sends [`TOTAL_BYTES`] of the pattern in pieces of any size, then the end.
async fn send(mut to: impl tokio::io::AsyncWrite + Unpin, seed: u64) {
    let (all, mut random) = (pattern(seed, TOTAL_BYTES), Random::seeded(seed));
    let mut rest = &all[..];
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(10_000)));
        to.write_all(piece).await.unwrap();
        rest = later;
    }
    to.shutdown().await.unwrap();
}

/// Receives what [`send`] sent, to the end.
async fn receive(mut from: impl tokio::io::AsyncRead + Unpin, seed: u64) {
    let (mut random, mut received) = (Random::seeded(!seed), 0);
    let mut buffer = vec![0; 10_000];
    loop {
        let length = 1 + random.below(buffer.len());
        let read = from.read(&mut buffer[..length]).await.unwrap();
        assert!(is_pattern(seed + received, &buffer[..read]), "at {received}");
        received += read as u64;
        if read == 0 {
            return assert_eq!(received, TOTAL_BYTES as u64);
        }
    }
}

/// Both at once, by tasks of their own.
async fn exchange(channel: Channel, policy: SpinPolicy, [sent, received]: [u64; 2]) {
    let mut channel = AsyncChannel::tokio(channel).unwrap();
    channel.set_policy(policy);
    let (reader, writer) = tokio::io::split(channel);
    let sending = tokio::spawn(send(writer, sent));
    tokio::spawn(receive(reader, received)).await.unwrap();
    sending.await.unwrap();
}

fn exchange_as_process(socket: UnixStream) {
    let channel = channel_over(socket);
    let [one_thread, _] = runtimes();
    one_thread.block_on(exchange(channel, SpinPolicy::default(), [2, 1]));
}

#[test]
fn proc_streams_both_ways_are_exact() {
    let _watchdog = Watchdog::start();
    for policy in policies() {
        for runtime in runtimes() {
            let (here, process) = channel_to_process(RING_BYTES, "exchange_as_process");
            runtime.block_on(exchange(here, policy.clone(), [1, 2]));
            process.assert_success();
        }
    }
}

#[test]
fn streams_between_threads_of_different_runtimes_are_exact() {
    let _watchdog = Watchdog::start();
    for (here, there) in [Channel::pair(RING_BYTES).unwrap(), pair_with_events()] {
        let [one_thread, threads] = runtimes();
        let peer = thread::spawn(move || {
            threads.block_on(exchange(there, SpinPolicy::default(), [2, 1]));
        });
        one_thread.block_on(exchange(here, SpinPolicy::default(), [1, 2]));
        peer.join().unwrap();
    }
}

#[test]
fn both_ends_on_one_thread_are_exact() {
    let _watchdog = Watchdog::start();
    for policy in policies() {
        let (here, there) = Channel::pair(RING_BYTES).unwrap();
        let [one_thread, _] = runtimes();
        one_thread.block_on(async {
            let peer = tokio::spawn(exchange(there, policy.clone(), [2, 1]));
            exchange(here, policy, [1, 2]).await;
            peer.await.unwrap();
        });
    }
}

/// [`exchange`] by the traits of futures-io, and by one task.
async fn exchange_on_smol(channel: Channel, [sent, received]: [u64; 2]) {
    use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
    let (mut reader, mut writer) = futures_lite::io::split(for_smol(channel));
    let sending = async move {
        for piece in pattern(sent, TOTAL_BYTES).chunks(1777) {
            writer.write_all(piece).await.unwrap();
        }
        writer.close().await.unwrap();
    };
    let receiving = async move {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), TOTAL_BYTES);
        assert!(is_pattern(received, &bytes));
    };
    zip(sending, receiving).await;
}

#[test]
fn streams_on_another_reactor_are_exact() {
    let _watchdog = Watchdog::start();
    let (here, there) = Channel::pair(RING_BYTES).unwrap();
    let peer = thread::spawn(|| async_io::block_on(exchange_on_smol(there, [2, 1])));
    async_io::block_on(exchange_on_smol(here, [1, 2]));
    peer.join().unwrap();
}

#[test]
fn what_is_cancelled_loses_nothing() {
    let _watchdog = Watchdog::start();
    for policy in policies() {
        let (here, there) = Channel::pair(RING_BYTES).unwrap();
        let [one_thread, threads] = runtimes();
        let peer = thread::spawn(move || {
            threads.block_on(exchange(there, SpinPolicy::default(), [2, 1]));
        });
        one_thread.block_on(exchange_giving_up(here, policy));
        peer.join().unwrap();
    }
}

/// [`exchange`] by futures that are polled once, mostly, and then dropped.
async fn exchange_giving_up(channel: Channel, policy: SpinPolicy) {
    let mut channel = AsyncChannel::tokio(channel).unwrap();
    channel.set_policy(policy);
    let (all, mut buffer) = (pattern(1, TOTAL_BYTES), [0; 1000]);
    let (mut sent, mut received, mut turn) = (0, 0, 0_usize);
    while received < TOTAL_BYTES || sent < TOTAL_BYTES {
        turn += 1;
        if let Some(read) = at_most_once(turn, channel.read(&mut buffer)).await {
            let read = read.unwrap();
            assert!(is_pattern(2 + received as u64, &buffer[..read]), "at {received}");
            received += read;
        }
        let rest = &all[sent..TOTAL_BYTES.min(sent + 3000)];
        if let Some(written) = at_most_once(turn, channel.write(rest)).await {
            sent += written.unwrap();
        }
    }
    channel.shutdown().await.unwrap();
    assert_eq!(channel.read(&mut buffer).await.unwrap(), 0);
}

/// What comes of one poll, beside another future that is ready, or that is soon.
async fn at_most_once<T>(turn: usize, future: impl Future<Output = T>) -> Option<T> {
    if turn % 3 == 0 {
        return poll_once(future).await;
    }
    tokio::select! {
        biased;
        done = future => Some(done),
        () = tokio::task::yield_now(), if turn % 2 == 0 => None,
        () = std::future::ready(()), if turn % 2 != 0 => None,
    }
}

/// A spin as long as no test takes, for a peer that does nothing.
fn endless() -> SpinPolicy {
    SpinPolicy::new(WaitMode::Spin, u64::MAX / 2)
}

/// Never hears a doorbell, and counts how often others were to run.
struct Ceding(Rc<Cell<usize>>);

impl Reactor for Ceding {
    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn cede(&mut self, _: &Waker) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_poll_that_spins_ends_by_ceding() {
    let _watchdog = Watchdog::start();
    let (here, _there) = Channel::pair(RING_BYTES).unwrap();
    let ceded = Rc::new(Cell::new(0));
    let mut channel = AsyncChannel::new(here, Ceding(Rc::clone(&ceded)));
    channel.set_policy(endless());
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..200 {
        assert!(channel.poll_read(&mut context, &mut [0]).is_pending());
    }
    // Some of them may have lost the CPU, and end by that.
    assert!(ceded.get() > 20, "{} of 200", ceded.get());
}

/// Counts how often it is polled.
struct Counted<F>(F, Rc<Cell<usize>>);

impl<F: Future + Unpin> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.1.set(self.1.get() + 1);
        pin!(&mut self.0).poll(context)
    }
}

#[test]
fn others_have_their_turns_while_one_spins() {
    const TURNS: usize = 2000;
    let _watchdog = Watchdog::start();
    let (here, mut there) = Channel::pair(RING_BYTES).unwrap();
    let [one_thread, _] = runtimes();
    let polls = Rc::new(Cell::new(0));
    one_thread.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut channel = AsyncChannel::tokio(here).unwrap();
        channel.set_policy(endless());
        let counted = Rc::clone(&polls);
        let spinner = tokio::task::spawn_local(async move {
            Counted(pin!(channel.read_u8()), counted).await.unwrap()
        });
        for _ in 0..TURNS {
            yield_now().await;
        }
        assert!(polls.get() <= TURNS + 1, "{} polls", polls.get());
        assert!(!spinner.is_finished());
        there.try_write(b"x").unwrap();
        spinner.await.unwrap();
    }));
}

#[test]
fn the_runtime_hears_of_others_while_one_spins() {
    let _watchdog = Watchdog::start();
    for runtime in runtimes() {
        let (here, mut there) = Channel::pair(RING_BYTES).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let echo = thread::spawn(move || io::copy(&mut &theirs, &mut &theirs).unwrap());
        runtime.block_on(async {
            let mut channel = AsyncChannel::tokio(here).unwrap();
            channel.set_policy(endless());
            let spinner = tokio::spawn(async move { channel.read_u8().await.unwrap() });
            ours.set_nonblocking(true).unwrap();
            let mut socket = tokio::net::UnixStream::from_std(ours).unwrap();
            for byte in 0..200 {
                socket.write_u8(byte).await.unwrap();
                assert_eq!(socket.read_u8().await.unwrap(), byte);
                tokio::time::sleep(Duration::from_micros(10)).await;
            }
            assert!(!spinner.is_finished());
            there.try_write(b"x").unwrap();
            assert_eq!(spinner.await.unwrap(), b'x');
        });
        assert_eq!(echo.join().unwrap(), 200);
    }
}

#[test]
fn a_spin_for_nothing_ends_and_the_task_sleeps() {
    let _watchdog = Watchdog::start();
    let (here, mut there) = Channel::pair(RING_BYTES).unwrap();
    let [one_thread, _] = runtimes();
    let polls = Rc::new(Cell::new(0));
    one_thread.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut channel = AsyncChannel::tokio(here).unwrap();
        let counted = Rc::clone(&polls);
        let reader = tokio::task::spawn_local(async move {
            Counted(pin!(channel.read_u8()), counted).await.unwrap()
        });
        // One that spins is polled at least once before the timer is looked at.
        let mut before = 0;
        while polls.get() > before {
            before = polls.get();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        there.try_write(b"x").unwrap();
        assert_eq!(reader.await.unwrap(), b'x');
    }));
}

/// Writes some bytes and never ends by itself.
fn write_and_wait(socket: UnixStream) {
    let mut channel = channel_over(socket);
    channel.try_write(b"last words").unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn proc_what_a_killed_peer_wrote_is_read_and_then_the_end() {
    let _watchdog = Watchdog::start();
    for policy in policies() {
        for runtime in runtimes() {
            let (here, mut process) = channel_to_process(RING_BYTES, "write_and_wait");
            runtime.block_on(async {
                let mut channel = AsyncChannel::tokio(here).unwrap();
                channel.set_policy(policy.clone());
                let mut words = [0; 10];
                channel.read_exact(&mut words).await.unwrap();
                assert_eq!(words, *b"last words");
                process.begin_to_kill();
                assert_eq!(channel.read(&mut words).await.unwrap(), 0);
                let error = channel.write_all(&[0; 2 * RING_BYTES]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            });
        }
    }
}

#[test]
fn proc_a_writer_without_space_hears_that_its_peer_was_killed() {
    let _watchdog = Watchdog::start();
    let (here, mut process) = channel_to_process(RING_BYTES, "write_and_wait");
    let [one_thread, _] = runtimes();
    one_thread.block_on(async {
        let mut channel = AsyncChannel::tokio(here).unwrap();
        channel.write_all(&[0; RING_BYTES]).await.unwrap();
        let killing = async { process.begin_to_kill() };
        let (written, ()) = zip(channel.write(b"x"), killing).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_peer_that_breaks_the_protocol_is_an_error() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let [one_thread, _] = runtimes();
    one_thread.block_on(async {
        let here = Channel::new(created.into_endpoint(), here.into());
        let mut channel = AsyncChannel::tokio(here).unwrap();
        rustix::io::write(&there, b"no doorbell").unwrap();
        let error = channel.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn who_waits_is_told_of_what_the_other_direction_found() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let file = File::from(created.fd().unwrap());
    let [here, _there] = EventDoorbells::pair().unwrap();
    let [one_thread, _] = runtimes();
    one_thread.block_on(async {
        let here = Channel::with_events(created.into_endpoint(), here);
        let mut channel = AsyncChannel::tokio(here).unwrap();
        channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
        let (mut reader, mut writer) = tokio::io::split(channel);
        let reading = tokio::spawn(async move { reader.read_u8().await.unwrap_err().kind() });
        tokio::task::yield_now().await;
        file.write_all_at(&u64::MAX.to_ne_bytes(), HEAD_OF_ATTACHER).unwrap();
        let error = writer.write_all(&[0; RING_BYTES + 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(reading.await.unwrap(), ErrorKind::InvalidData);
    });
}

#[test]
fn who_has_finished_writing_still_reads() {
    let _watchdog = Watchdog::start();
    let [one_thread, _] = runtimes();
    one_thread.block_on(async {
        let (here, there) = Channel::pair(RING_BYTES).unwrap();
        let mut here = AsyncChannel::tokio(here).unwrap();
        let mut there = AsyncChannel::tokio(there).unwrap();
        let peer = tokio::spawn(async move {
            let mut question = String::new();
            there.read_to_string(&mut question).await.unwrap();
            there.write_all(question.to_uppercase().as_bytes()).await.unwrap();
        });
        here.write_all(b"question").await.unwrap();
        here.shutdown().await.unwrap();
        assert_eq!(here.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut answer = String::new();
        here.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "QUESTION");
        peer.await.unwrap();
    });
}

/// A task that was woken so many times.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// One end, polled by hand.
struct End {
    channel: AsyncChannel<ByHand>,
    /// For its reader and its writer, and how often each had been woken when it was polled.
    tasks: [(Arc<Wakes>, Option<usize>); 2],
    sent: u64,
    received: u64,
}

/// Asks the kernel, and wakes who has waited when it says that it did. Until then
/// [`End::is_forgotten`] asks in its place.
struct ByHand {
    doorbell: OwnedFd,
    waits: Option<Waker>,
}

impl Reactor for ByHand {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if is_readable(&self.doorbell) {
            self.waits.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        self.waits = Some(context.waker().clone());
        Poll::Pending
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)).unwrap() > 0
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Read(usize),
    Write(usize),
}

impl End {
    fn new(channel: Channel, policy: SpinPolicy) -> Self {
        let doorbell = channel.as_fd().try_clone_to_owned().unwrap();
        let mut channel = AsyncChannel::new(channel, ByHand { doorbell, waits: None });
        channel.set_policy(policy);
        Self { channel, tasks: Default::default(), sent: 0, received: 0 }
    }

    /// One poll; what is pending may be polled again later, or never.
    fn act(&mut self, act: Act) {
        let (wakes, pending) = &mut self.tasks[usize::from(matches!(act, Act::Write(_)))];
        let before = wakes.0.load(Relaxed);
        let waker = Waker::from(Arc::clone(wakes));
        let mut context = Context::from_waker(&waker);
        let polled = match act {
            Act::Read(length) => {
                let mut target = vec![0; length];
                let read = self.channel.poll_read(&mut context, &mut target);
                if let Poll::Ready(Ok(read)) = read {
                    assert!(is_pattern(self.received, &target[..read]), "at {}", self.received);
                    self.received += read as u64;
                }
                read
            }
            Act::Write(length) => {
                let written = self.channel.poll_write(&mut context, &pattern(self.sent, length));
                if let Poll::Ready(Ok(written)) = written {
                    self.sent += written as u64;
                }
                written
            }
        };
        *pending = match polled {
            Poll::Pending => Some(before),
            Poll::Ready(Ok(_)) => None,
            Poll::Ready(Err(error)) => panic!("{error}"),
        };
    }

    /// Whether a task waits for what is there, and nothing will wake it.
    fn is_forgotten(&self, unread: u64, unread_there: u64) -> bool {
        let sleeps = |task: usize| {
            let (wakes, pending) = &self.tasks[task];
            pending.is_some_and(|before| wakes.0.load(Relaxed) == before)
        };
        // A reader looks for a writer without space once for each half of the ring.
        let is_forgotten = sleeps(0) && unread > 0 || sleeps(1) && unread_there == 0;
        is_forgotten && !is_readable(self.channel.get_ref())
    }
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let length = prop_oneof![1..100_usize, 1..=2 * RING_BYTES];
    let act = (any::<bool>(), length)
        .prop_map(|(reads, length)| if reads { Act::Read(length) } else { Act::Write(length) });
    prop::collection::vec((any::<bool>(), act), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Bytes are exact whatever is polled and dropped, and who waits is woken.
    #[test]
    fn nobody_who_waits_is_forgotten(acts in acts(), mode in 0..3_usize) {
        let (here, there) = Channel::pair(RING_BYTES).unwrap();
        let policy = &policies()[mode];
        let mut ends = [here, there].map(|channel| End::new(channel, policy.clone()));
        for (which, act) in acts {
            ends[usize::from(which)].act(act);
            let unread = [0, 1].map(|end: usize| ends[1 - end].sent - ends[end].received);
            for end in [0, 1] {
                let is_forgotten = ends[end].is_forgotten(unread[end], unread[1 - end]);
                prop_assert!(!is_forgotten, "end {end} after {act:?}");
            }
        }
    }
}

#[allow(dead_code, reason = "it need not run")]
fn it_moves_between_threads(channel: AsyncChannel<Tokio>) {
    fn moves<T: Send + Unpin + 'static>(_: T) {}
    moves(channel);
}
