package shmfifo

import (
	"sync/atomic"
	"time"
)

// waiter is one side of a connection that may have to wait: its reader or its writer. It has
// that side's deadline, which others may change meanwhile.
type waiter struct {
	start    time.Time     // what deadlines count from
	deadline atomic.Int64  // in nanoseconds after start; 0 is none
	waits    atomic.Bool   // it sleeps, or is about to
	news     chan struct{} // something has happened that it is to look at
}

func newWaiter(start time.Time) *waiter {
	return &waiter{start: start, news: make(chan struct{}, 1)}
}

// setDeadline says until when it waits at most; a zero time is for ever.
func (w *waiter) setDeadline(t time.Time) {
	after := int64(0)
	if !t.IsZero() {
		if after = int64(t.Sub(w.start)); after == 0 {
			after = -1
		}
	}
	w.deadline.Store(after)
}

// until is the deadline, a zero time if there is none.
func (w *waiter) until() time.Time {
	if after := w.deadline.Load(); after != 0 {
		return w.start.Add(time.Duration(after))
	}
	return time.Time{}
}

// before is the earlier of the deadline and a limit; zero is for ever.
func (w *waiter) before(limit time.Time) time.Time {
	until := w.until()
	if until.IsZero() || !limit.IsZero() && limit.Before(until) {
		return limit
	}
	return until
}

// isLate says whether the deadline has passed.
func (w *waiter) isLate() bool {
	after := w.deadline.Load()
	return after != 0 && int64(time.Since(w.start)) >= after
}

// tell wakes it, or lets it not fall asleep.
func (w *waiter) tell() {
	select {
	case w.news <- struct{}{}:
	default: // it has some already
	}
}

// heard takes the news, if there is any.
func (w *waiter) heard() bool {
	select {
	case <-w.news:
		return true
	default:
		return false
	}
}
