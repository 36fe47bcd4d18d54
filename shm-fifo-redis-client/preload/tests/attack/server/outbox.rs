//! What a connection has to send, in order.

use super::offer;
use super::transport::Transport;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// A push that is there because of a move: the driver expects it anywhere between replies.
const SCRIPT_PUSH: &str = ">1\r\n$6\r\nSCRIPT\r\n";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Sent {
        bytes: usize,
        purpose: Purpose,
    },
    /// The connection is to be closed.
    Close,
    /// Nothing more will be sent.
    EndSending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The program reads it.
    Reply,
    /// The program reads it, if its connection moves.
    ScriptPush,
    /// The preloaded library reads it.
    Move,
}

#[derive(Debug)]
enum Item {
    Bytes { bytes: Vec<u8>, sent: usize, piece: usize, purpose: Purpose },
    Offer { fd: OwnedFd, name: Option<Vec<u8>>, in_parts: bool },
    Step(Step),
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    /// Only so many of them may go.
    limit: Option<usize>,
    is_stuck: bool,
    is_in_pieces: bool,
}

impl Outbox {
    /// A reply, or a push.
    pub(super) fn say(&mut self, text: impl AsRef<[u8]>) {
        self.bytes(text.as_ref(), usize::MAX, Purpose::Reply);
    }

    /// A reply that goes in pieces of so many bytes.
    pub(super) fn say_in_pieces(&mut self, bytes: &[u8], piece: usize) {
        self.bytes(bytes, piece.max(1), Purpose::Reply);
    }

    /// The answer to `SHM.OPEN` or `SHM.START`.
    pub(super) fn answer(&mut self, text: impl AsRef<[u8]>) {
        self.bytes(text.as_ref(), usize::MAX, Purpose::Move);
    }

    pub(super) fn script_push(&mut self) {
        self.bytes(SCRIPT_PUSH.as_bytes(), usize::MAX, Purpose::ScriptPush);
    }

    /// A descriptor with `+OK`; beside the connection, where it has a `name`.
    pub(super) fn offer(&mut self, fd: OwnedFd, name: Option<&[u8]>, in_parts: bool) {
        self.items.push_back(Item::Offer { fd, name: name.map(<[u8]>::to_vec), in_parts });
    }

    pub(super) fn then(&mut self, step: Step) {
        self.items.push_back(Item::Step(step));
    }

    /// The last of them waits for [`Outbox::release`], and so does what follows.
    pub(super) fn hold(&mut self) {
        self.limit = Some(self.items.len().saturating_sub(1));
    }

    pub(super) fn release(&mut self) {
        self.limit = None;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether all that may go has gone.
    pub(super) fn is_done(&self) -> bool {
        self.items.is_empty() || self.limit == Some(0)
    }

    /// Whether there was no room for the next one.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck && !self.is_done()
    }

    /// Whether what was sent last was a piece.
    pub(super) fn is_in_pieces(&self) -> bool {
        self.is_in_pieces
    }

    fn bytes(&mut self, bytes: &[u8], piece: usize, purpose: Purpose) {
        self.items.push_back(Item::Bytes { bytes: bytes.to_vec(), sent: 0, piece, purpose });
    }

    /// Sends some of the first one. `None` if nothing can go.
    pub(super) fn send(&mut self, transport: &mut Transport) -> io::Result<Option<Step>> {
        self.is_stuck = false;
        self.is_in_pieces = false;
        if self.limit == Some(0) {
            return Ok(None);
        }
        let step = match self.items.front_mut() {
            None => return Ok(None),
            Some(Item::Step(step)) => *step,
            Some(Item::Offer { .. }) => return self.send_offer(transport).map(Some),
            Some(Item::Bytes { bytes, sent, piece, purpose }) => {
                let rest = &bytes[*sent..];
                let count = match transport.send(&rest[..rest.len().min(*piece)]) {
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.is_stuck = true;
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                };
                *sent += count;
                let step = Step::Sent { bytes: count, purpose: *purpose };
                self.is_in_pieces = *piece < usize::MAX;
                if *sent < bytes.len() {
                    return Ok(Some(step));
                }
                step
            }
        };
        self.pop();
        Ok(Some(step))
    }

    fn send_offer(&mut self, transport: &mut Transport) -> io::Result<Step> {
        let Some(Item::Offer { fd, name, in_parts }) = self.pop() else {
            return Err(ErrorKind::InvalidData.into());
        };
        let answer = offer::answer(&fd, name.as_deref());
        let (first, rest) = answer.split_at(if in_parts { 1 } else { answer.len() });
        // The socket is idle: so few bytes go.
        match &name {
            None => transport.send_with(first, &fd)?,
            Some(name) => {
                offer::send_beside(name, &fd)?;
                transport.send(first)?
            }
        };
        if !rest.is_empty() {
            let (bytes, purpose) = (rest.to_vec(), Purpose::Move);
            self.items.push_front(Item::Bytes { bytes, sent: 0, piece: 1, purpose });
            self.limit = self.limit.map(|limit| limit + 1);
        }
        self.is_in_pieces = in_parts;
        Ok(Step::Sent { bytes: first.len(), purpose: Purpose::Move })
    }

    fn pop(&mut self) -> Option<Item> {
        self.limit = self.limit.map(|limit| limit.saturating_sub(1));
        self.items.pop_front()
    }
}
