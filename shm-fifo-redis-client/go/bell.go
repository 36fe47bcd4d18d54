package shmfifo

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bell is the socket of a connection: its doorbell, and before that its bytes.
//
// A goroutine that waits for the peer sleeps in Go's network poller, on this socket, and holds
// no thread. There may be two of them, a reader and a writer, and one socket: so one of
// them listens, whose turn it is, and when it has heard something it tells the other.
type bell struct {
	socket net.Conn
	raw    syscall.RawConn                             // for doorbells
	hear   func(w *waiter, target []byte) (int, error) // takes what is on the socket
	done   chan struct{}                               // closed with the connection
	turn   chan struct{}                               // full while somebody listens
	reader *waiter
	writer *waiter

	mu        sync.Mutex
	listening *waiter   // its deadline is the socket's
	limit     time.Time // and this is, if it is earlier
}

func newBell(socket net.Conn) *bell {
	now := time.Now()
	b := &bell{
		socket: socket,
		done:   make(chan struct{}),
		turn:   make(chan struct{}, 1),
		reader: newWaiter(now),
		writer: newWaiter(now),
	}
	if s, ok := socket.(syscall.Conn); ok {
		b.raw, _ = s.SyscallConn()
	}
	return b
}

// ring wakes the peer. It never waits: a full socket has doorbells that nobody has read yet.
// An end is noticed by reading.
func (b *bell) ring() {
	_ = b.raw.Control(ringOnce)
}

// listen waits for whatever comes on the socket and hears it, with this room for what is
// the program's: how much of that came. It waits until the deadline of w, and no longer than
// until limit if that is not zero, which is no error. It returns early where there may be
// something else to look at.
func (b *bell) listen(w *waiter, target []byte, limit time.Time) (int, error) {
	w.waits.Store(true)
	defer w.waits.Store(false)
	itsTurn, err := b.takeTurn(w, limit)
	if err != nil || !itsTurn {
		return 0, err
	}
	defer b.endTurn(w)
	if mayListen, err := b.beginListening(w, limit); err != nil || !mayListen {
		return 0, err
	}
	n, err := b.hear(w, target)
	if errors.Is(err, os.ErrDeadlineExceeded) && !w.isLate() {
		err = nil // it was the limit's, or has changed meanwhile
	}
	return n, err
}

// beginListening is told whose deadline the socket's is, unless there is news: what was heard
// before this turn was told before it ended.
func (b *bell) beginListening(w *waiter, limit time.Time) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.heard() {
		return false, nil
	}
	b.listening, b.limit = w, limit
	return true, b.socket.SetReadDeadline(w.before(limit))
}

// wake has w look again, also while it listens.
func (b *bell) wake(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listening == w {
		_ = b.socket.SetReadDeadline(time.Unix(1, 0)) // which is not its own
		return
	}
	w.tell()
}

// takeTurn waits for the turn to listen, or for news.
func (b *bell) takeTurn(w *waiter, limit time.Time) (bool, error) {
	select {
	case b.turn <- struct{}{}:
		return true, nil
	default:
	}
	var late <-chan time.Time
	if until := w.before(limit); !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case b.turn <- struct{}{}:
		return true, nil
	case <-w.news:
		return false, nil
	case <-late:
		// It may have been changed meanwhile.
		if w.isLate() {
			return false, os.ErrDeadlineExceeded
		}
		return false, nil
	case <-b.done:
		return false, net.ErrClosed
	}
}

func (b *bell) endTurn(w *waiter) {
	b.mu.Lock()
	b.listening = nil
	b.mu.Unlock()
	if w == b.reader {
		b.writer.tell()
	} else {
		b.reader.tell()
	}
	<-b.turn
}

// writeUntil has what is written on the socket end by the deadline of w.
func (b *bell) writeUntil(w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.socket.SetWriteDeadline(w.until())
}

// setDeadline changes that of w, also while it waits.
func (b *bell) setDeadline(w *waiter, t time.Time) error {
	w.setDeadline(t)
	if !w.waits.Load() {
		return nil
	}
	// Whoever listens has put its deadline on the socket, or will, and sees the new one.
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listening == w {
		return b.socket.SetReadDeadline(w.before(b.limit))
	}
	w.tell()
	return nil
}
