//! A connection moves, and the server says what a script says (`programs/scripted.c`): its
//! answers cut at any byte, among pushes, many or none, late, or refusals.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "scripted/peer.rs"]
mod peer;
mod support;

use peer::{OK, Offer, PONG, PUSH, Peer, make_offer};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use support::{Kind, program, redis_shm, run, watched};
use tempfile::TempDir;

/// What the connections of one run have in common.
#[derive(Default)]
struct Run {
    moved: AtomicUsize,
    is_full: AtomicBool,
    is_refused: AtomicBool,
    is_released: AtomicBool,
}

/// What the server does with its connection of this number.
type Script = fn(&mut Peer, usize, &Run);

/// Runs one of the program's tests with a server of that script. Returns how many moved.
fn scripted(kind: Kind, name: &str, environment: &[(&str, usize)], script: Script) -> usize {
    let directory = TempDir::new().unwrap();
    let this_run = Arc::new(Run::default());
    let (address, accept) = listen(kind, &directory);
    let for_server = Arc::clone(&this_run);
    std::thread::spawn(move || {
        for (number, socket) in (0..).map_while(|number| Some((number, accept()?))) {
            let this_run = Arc::clone(&for_server);
            std::thread::spawn(move || script(&mut Peer::new(socket), number, &this_run));
        }
    });
    let mut command = Command::new(redis_shm());
    match kind {
        Kind::Unix => command.args(["exec", "-s"]),
        Kind::Tcp => command.args(["exec", "-h", "127.0.0.1", "-p"]),
    };
    command.arg(&address).args(["--after", "16", "--"]);
    command.arg(program("scripted")).arg(&address).arg(name);
    command.envs(environment.iter().map(|(name, value)| (name, value.to_string())));
    assert_eq!(run(&mut command, ""), "passed\n");
    this_run.moved.load(SeqCst)
}

fn listen(kind: Kind, directory: &TempDir) -> (String, Box<dyn Fn() -> Option<OwnedFd> + Send>) {
    match kind {
        Kind::Unix => {
            let path = directory.path().join("socket");
            let listener = UnixListener::bind(&path).unwrap();
            let accept = move || Some(listener.accept().ok()?.0.into());
            (path.to_str().unwrap().to_owned(), Box::new(accept))
        }
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            (port.to_string(), Box::new(move || Some(listener.accept().ok()?.0.into())))
        }
    }
}

/// Accepts a `SHM.START` and serves the program to its end.
fn move_on(peer: &mut Peer, offer: Offer, this_run: &Run) {
    this_run.moved.fetch_add(1, SeqCst);
    peer.enter(offer, OK);
    peer.say_in_ring(PUSH);
    peer.serve_ring();
}

/// The ways in which the program waits.
const WAYS: usize = 3;

#[test]
fn answers_and_pushes_are_cut_anywhere() {
    let positions = [PUSH, OK, PUSH].concat().len() + 1;
    watched(move || {
        let environment = [("TIMES", positions), ("PUSHES", 5)];
        let moved = scripted(Kind::Unix, "pushes", &environment, |peer, number, this_run| {
            let cut = number / WAYS;
            let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
            let offer = make_offer();
            peer.offer(&offer, name.as_deref(), PUSH, &[OK, PUSH].concat(), cut);
            if peer.serve_to(b"SHM.START").is_none() {
                return;
            }
            let two = [PUSH, PUSH].concat();
            peer.say_cut(&two, cut.min(two.len()));
            move_on(peer, offer, this_run);
        });
        assert_eq!(moved, positions * WAYS);
    });
}

/// More of them than are kept at a time.
#[test]
fn pushes_come_without_end() {
    const MANY: usize = 60_000;
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let environment = [("TIMES", 1), ("PUSHES", 2 * MANY + 1)];
            let moved = scripted(kind, "pushes", &environment, |peer, _, this_run| {
                let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
                let offer = make_offer();
                peer.say(&PUSH.repeat(MANY));
                let answer = offer.answer(name.as_deref());
                peer.offer(&offer, name.as_deref(), b"", &answer, 0);
                if peer.serve_to(b"SHM.START").is_none() {
                    return;
                }
                peer.say(&PUSH.repeat(MANY));
                move_on(peer, offer, this_run);
            });
            assert_eq!(moved, WAYS, "{kind:?}");
        }
    });
}

#[test]
fn half_a_push_is_read_before_the_rest_comes() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let moved = scripted(kind, "halves", &[], |peer, _, this_run| {
                let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
                let (half, rest) = PUSH.split_at(PUSH.len() / 2);
                peer.say(half);
                peer.request();
                let offer = make_offer();
                let answer = offer.answer(name.as_deref());
                peer.offer(&offer, name.as_deref(), rest, &answer, 0);
                peer.say(PONG);
                if peer.serve_to(b"SHM.START").is_some() {
                    this_run.moved.fetch_add(1, SeqCst);
                    peer.enter(offer, OK);
                    peer.serve_ring();
                }
            });
            assert_eq!(moved, 1, "{kind:?}");
        }
    });
}

/// What is no answer ends the connection.
#[test]
fn answers_that_are_none() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            scripted(kind, "ended", &[("TIMES", 4)], |peer, number, _| {
                let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
                let offer = make_offer();
                let answer = offer.answer(name.as_deref());
                peer.offer(&offer, name.as_deref(), b"", &answer, 0);
                if peer.serve_to(b"SHM.START").is_none() {
                    return;
                }
                match number {
                    // A byte behind the doorbell.
                    0 => {
                        peer.enter(offer, OK);
                        peer.say(b"\0+");
                    }
                    // Another answer in the ring.
                    1 => peer.enter(offer, b"-NO\r\n"),
                    // No doorbell, and no reply either.
                    2 => peer.say(b"?\r\n"),
                    // An answer that may be none.
                    _ => peer.say(b"+OK\r\n"),
                }
                peer.wait_for_end();
            });
        }
    });
}

/// Nor does an answer to the first question leave anything to go on with.
#[test]
fn answers_to_open_that_are_none() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            scripted(kind, "ended_early", &[("TIMES", 2)], |peer, number, _| {
                if peer.serve_to(b"SHM.OPEN").is_none() {
                    return;
                }
                // A doorbell before anything was started, and an answer without an end.
                let endless = [b"-", &[b'x'; 70_000][..]].concat();
                peer.say([b"\0", &endless[..]][number]);
                peer.wait_for_end();
            });
        }
    });
}

/// The server was asked, but is not told to start: nothing could be received any more.
#[test]
fn reading_ends_while_the_server_is_asked() {
    watched(|| {
        let moved = scripted(Kind::Tcp, "reading_ended", &[], |peer, _, this_run| {
            let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
            let offer = make_offer();
            let answer = offer.answer(name.as_deref());
            peer.offer(&offer, name.as_deref(), b"", &answer, 0);
            peer.say(PUSH);
            if peer.serve_to(b"SHM.START").is_some() {
                this_run.moved.fetch_add(1, SeqCst);
            }
        });
        assert_eq!(moved, 0);
    });
}

#[test]
fn others_are_heard_while_the_server_is_told_to_start() {
    watched(|| {
        scripted(Kind::Tcp, "deaf", &[], |peer, _, this_run| {
            let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
            let offer = make_offer();
            let answer = offer.answer(name.as_deref());
            peer.offer(&offer, name.as_deref(), b"", &answer, 0);
            if peer.serve_to(b"SHM.START").is_some() {
                this_run.moved.fetch_add(1, SeqCst);
                peer.wait_for_end();
            }
        });
    });
}

#[test]
fn numbers_are_the_lowest() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let moved = scripted(kind, "numbers", &[], |peer, _, this_run| {
                let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
                let offer = make_offer();
                // All but its last bytes, at once, so that the descriptor is taken with the push.
                let answer = offer.answer(name.as_deref());
                let (begin, rest) = answer.split_at(2);
                peer.offer(&offer, name.as_deref(), b"", &[PUSH, begin].concat(), 0);
                peer.request();
                peer.request();
                peer.say(&[rest, PONG, PONG].concat());
                if peer.serve_to(b"SHM.START").is_some() {
                    this_run.moved.fetch_add(1, SeqCst);
                    peer.enter(offer, OK);
                    peer.serve_ring();
                }
            });
            assert_eq!(moved, 1, "{kind:?}");
        }
    });
}

#[test]
fn flags_are_the_programs_after_a_refusal() {
    watched(|| {
        scripted(Kind::Unix, "flags", &[], |peer, _, _| {
            while let Some(name) = peer.serve_to(b"SHM.OPEN") {
                let offer = make_offer();
                let answer = offer.answer(name.as_deref());
                peer.offer(&offer, name.as_deref(), b"", &answer, 0);
                if peer.serve_to(b"SHM.START").is_some() {
                    peer.say(b"-ERR SHM.START: cannot move the connection\r\n");
                }
            }
        });
    });
}

/// The server refuses when the program has written as much as it may behind its answer, and
/// reads nothing: the program's second connection says when.
#[test]
fn a_refusal_with_much_behind_it() {
    fn wait_for(what: &AtomicBool) {
        // The watchdog ends it.
        while !what.load(SeqCst) {
            std::thread::yield_now();
        }
    }
    watched(|| {
        scripted(Kind::Unix, "much", &[], |peer, number, this_run| {
            if number > 0 {
                peer.request();
                this_run.is_full.store(true, SeqCst);
                wait_for(&this_run.is_refused);
                peer.say(PONG);
                peer.request();
                this_run.is_released.store(true, SeqCst);
                return peer.say(PONG);
            }
            let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
            let offer = make_offer();
            let answer = offer.answer(name.as_deref());
            peer.offer(&offer, name.as_deref(), b"", &answer, 0);
            if peer.serve_to(b"SHM.START").is_none() {
                return;
            }
            wait_for(&this_run.is_full);
            peer.say(b"-ERR SHM.START: cannot move the connection\r\n");
            this_run.is_refused.store(true, SeqCst);
            wait_for(&this_run.is_released);
            while peer.serve_to(b"SHM.OPEN").is_some() {
                peer.say(b"-ERR SHM.OPEN: no\r\n");
            }
        });
    });
}

/// A matter of luck in each round.
#[test]
fn a_refusal_beside_a_write() {
    watched(|| {
        scripted(Kind::Unix, "refused_beside", &[("TIMES", 400)], |peer, _, _| {
            let Some(name) = peer.serve_to(b"SHM.OPEN") else { return };
            let offer = make_offer();
            let answer = offer.answer(name.as_deref());
            peer.offer(&offer, name.as_deref(), b"", &answer, 0);
            if peer.serve_to(b"SHM.START").is_some() {
                peer.say(b"-ERR SHM.START: cannot move the connection\r\n");
            }
            while peer.serve_to(b"SHM.OPEN").is_some() {
                peer.say(b"-ERR SHM.OPEN: no\r\n");
            }
        });
    });
}

/// Moves the connection as the protocol has it. `None` if the program ends before.
fn moved(peer: &mut Peer, this_run: &Run) -> Option<()> {
    let name = peer.serve_to(b"SHM.OPEN")?;
    let offer = make_offer();
    let answer = offer.answer(name.as_deref());
    peer.offer(&offer, name.as_deref(), b"", &answer, 0);
    peer.serve_to(b"SHM.START")?;
    this_run.moved.fetch_add(1, SeqCst);
    peer.enter(offer, OK);
    Some(())
}

/// Serves a connection that moves.
fn serve(peer: &mut Peer, _: usize, this_run: &Run) {
    if moved(peer, this_run).is_some() {
        peer.serve_ring();
    }
}

#[test]
fn a_wait_has_one_timeout() {
    watched(|| {
        scripted(Kind::Unix, "rung", &[], |peer, _, this_run| {
            if moved(peer, this_run).is_some() {
                peer.serve_ring();
                peer.ring_for_ever();
            }
        });
    });
}

#[test]
fn nested_and_refused() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            scripted(kind, "nested", &[], |peer, _, _| {
                if peer.serve_to(b"SHM.OPEN").is_none() {
                    return;
                }
                peer.request();
                peer.say(PUSH);
                peer.request();
                peer.say(&[PUSH, b"-ERR SHM.OPEN: no\r\n"].concat());
                peer.request();
                peer.say(&PONG.repeat(3));
                peer.wait_for_end();
            });
        }
    });
}

#[test]
fn nested_twice_and_refused() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            scripted(kind, "nested_twice", &[], |peer, _, _| {
                if peer.serve_to(b"SHM.OPEN").is_some() {
                    peer.request();
                    peer.say(&[PUSH, b"-ERR SHM.OPEN: no\r\n", PONG].concat());
                    peer.wait_for_end();
                }
            });
        }
    });
}

#[test]
fn reading_is_ended_by_both() {
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let moves = scripted(kind, "ended_by_both", &[], |peer, _, this_run| {
                if moved(peer, this_run).is_some() {
                    peer.serve_ring();
                    peer.end_sending();
                    peer.wait_for_end();
                }
            });
            assert_eq!(moves, 1, "{kind:?}");
        }
    });
}

#[test]
fn waits_are_left() {
    const WAYS_TO_LEAVE: usize = 3;
    watched(|| {
        for kind in [Kind::Unix, Kind::Tcp] {
            let moved = scripted(kind, "left", &[("TIMES", WAYS_TO_LEAVE)], serve);
            assert_eq!(moved, WAYS_TO_LEAVE, "{kind:?}");
        }
    });
}

#[test]
fn a_thread_that_never_waits_is_cancelled() {
    watched(|| assert_eq!(scripted(Kind::Unix, "cancelled", &[], serve), 1));
}
