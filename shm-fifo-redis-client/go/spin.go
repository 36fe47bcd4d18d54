package shmfifo

import (
	"runtime"
	"time"
)

const (
	defaultSpin = 200 * time.Microsecond
	// The first spins take this part of the budget: about what a wake-up costs.
	firstPart = 4
	// A few looks that take so long were interrupted by the scheduler of the system; twice within
	// such a time means that somebody else wants this CPU.
	preempted    = 30 * time.Microsecond
	strikeWindow = 10 * time.Millisecond
	// So many spins in a row that found nothing were bad.
	expiredInARow = 3
	// No spinning for so many times what a bad spin cost.
	penaltyFactor = 100
	maxPenalty    = time.Second
	// Looks between two of the clock.
	looksPerClock = 16
)

// spinner decides how long to look again and again before sleeping, and learns: the policy of
// docs/waiting.md.
//
// A spin is short, and lets other goroutines run after each few looks. So it
// delays them by no more than a microsecond at a time, also with a GOMAXPROCS of 1.
type spinner struct {
	budget      time.Duration
	patience    time.Duration // of the next spin
	penalty     time.Duration // how long the last bad spin forbade spinning
	resume      time.Time     // no spinning before
	expired     int           // spins in a row that found nothing
	expiredFrom time.Time     // when the last one began, if what it waited for has not come
	preempted   time.Time     // when one was last interrupted
	place       place
}

// newSpinner makes one that spins for at most so long: 0 is the default, less is never.
func newSpinner(budget time.Duration) spinner {
	if budget == 0 {
		budget = defaultSpin
	}
	if budget < 0 || runtime.NumCPU() == 1 {
		budget = 0
	}
	return spinner{budget: budget, patience: budget / firstPart}
}

// spin looks until it is ready, which it returns, or that does not pay any more.
func (s *spinner) spin(isReady func() bool) bool {
	// The first looks need no clock: most answers come that soon.
	if looks(isReady) {
		s.won()
		return true
	}
	if s.budget == 0 {
		return false
	}
	began := time.Now()
	if began.Before(s.resume) || s.place.isShared() {
		return false
	}
	for {
		runtime.Gosched()
		from := time.Now()
		isThere := looks(isReady)
		now := time.Now()
		switch {
		case now.Sub(from) > preempted:
			s.interrupted(began, now)
			return isThere
		case isThere:
			s.won()
			return true
		case now.Sub(began) >= s.patience:
			s.lost(began, now)
			return false
		}
	}
}

// looks looks a few times, with a pause in between.
func looks(isReady func() bool) bool {
	for i := 0; i < looksPerClock; i++ {
		if isReady() {
			return true
		}
		pause()
	}
	return false
}

// won learns that spinning paid.
func (s *spinner) won() {
	s.expired, s.expiredFrom = 0, time.Time{}
	s.penalty /= 2
}

// lost learns that it did not.
func (s *spinner) lost(began, now time.Time) {
	s.expiredFrom = began
	if s.expired++; s.expired == expiredInARow {
		s.expired = 0
		s.punish(expiredInARow*s.patience, now)
	}
}

// interrupted learns that somebody else may want the CPU.
func (s *spinner) interrupted(began, now time.Time) {
	isSecond := now.Sub(s.preempted) < strikeWindow
	if s.preempted = now; isSecond {
		s.punish(now.Sub(began), now)
	}
}

// punish forbids spinning for a while, by what it has cost.
func (s *spinner) punish(cost time.Duration, now time.Time) {
	s.penalty = atLeast(2*s.penalty, penaltyFactor*cost)
	if s.penalty > maxPenalty {
		s.penalty = maxPenalty
	}
	s.resume = now.Add(s.penalty)
}

// woken learns, after a sleep, how long it was until what was waited for came. Where a
// longer spin would have seen it, the next one is.
func (s *spinner) woken() {
	if s.expiredFrom.IsZero() {
		return
	}
	if time.Since(s.expiredFrom) <= s.budget {
		s.expired = 0
		if s.patience *= 2; s.patience > s.budget {
			s.patience = s.budget
		}
	} else {
		s.patience = s.budget / firstPart
	}
	s.expiredFrom = time.Time{}
}

func atLeast(a, b time.Duration) time.Duration {
	if a > b {
		return a
	}
	return b
}
