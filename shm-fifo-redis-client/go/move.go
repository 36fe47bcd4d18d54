package shmfifo

import (
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// stage is how far a connection has come on its way from the socket to shared memory.
type stage int

const (
	onSocket stage = iota // it may ask
	opening               // SHM.OPEN was sent
	offered               // its answer has come
	starting              // SHM.START was sent; requests are written into the ring
	moved                 // the server has entered; the socket carries doorbells
	refused               // it has refused to; what is in the ring goes back to the socket
	staying               // on the socket, for good
)

const (
	// An offer lasts 5 seconds; one that is older than this is asked for anew.
	offerLasts = 4 * time.Second
	// After a refusal that may pass it is asked again after so many requests, then after
	// twice as many, and so on.
	askAgainFirst = 25
	askAgainMost  = 10_000
	// The module's answers have a few dozen bytes.
	maxAnswerBytes  = 64 << 10
	keptAnswerBytes = 512
)

const (
	okAnswer = "+OK\r\n"
	doorbell = 0

	protocolVersion = 2
)

// move follows the bytes of one connection on its socket, and knows the state of its way to
// shared memory: docs/protocol.md. It reads and writes nothing itself.
type move struct {
	stage       stage
	reason      error // why it is on the socket
	isNews      bool  // something was decided that nobody was told yet
	lost        error // why it is to stay, once the answer that is due has come
	requests    requestScanner
	replies     replyScanner
	outstanding int  // replies that the program has not received yet
	inMulti     bool // a transaction has begun: what follows is queued
	askAfter    int  // requests until it is asked again
	askBetween  int  // as many were between the last two
	offeredAt   time.Time
	proof       string // by TCP the token of the memory that is offered, in hexadecimal digits
	kind        byte   // the first byte of the reply that comes
	isAnswer    bool   // it is the handshake's
	answer      []byte // its beginning
	answerBytes int
}

// step is what is to be done before a request is sent.
type step int

const (
	send  step = iota // nothing
	ask               // send SHM.OPEN first
	start             // send SHM.START, and the request by shared memory
)

// before decides what comes before these bytes of the program's, and is in the stage that
// follows from it.
func (m *move) before(bytes []byte, now time.Time) step {
	if !m.isQuiet() {
		return send
	}
	if m.stage == offered && now.Sub(m.offeredAt) < offerLasts {
		m.stage = starting
		return start
	}
	if m.stage == offered {
		m.stage = onSocket
	}
	if m.stage == onSocket && m.askAfter <= 0 && isCommand(bytes) {
		m.stage = opening
		return ask
	}
	return send
}

// isQuiet says whether no reply is outstanding, and no request begun.
func (m *move) isQuiet() bool {
	return m.outstanding == 0 && !m.inMulti && m.lost == nil && m.requests.isBetween() && m.replies.isBetween()
}

// isCommand says whether the first of these requests is one, and does not log in: before
// that it is too early to ask. Where its name is not there yet, nothing can be said; what is
// no request may be TLS, in which nothing must be put.
func isCommand(bytes []byte) bool {
	var first requestScanner
	for i := range bytes {
		if _, _, err := first.next(bytes[i : i+1]); err != nil {
			return false
		}
		if first.seen > 0 && first.skip == 0 {
			name := first.request().name
			return name != "HELLO" && name != "AUTH"
		}
	}
	return false
}

// sent follows what the program sends on the socket.
func (m *move) sent(bytes []byte) {
	for len(bytes) > 0 && m.lost == nil {
		taken, ended, err := m.requests.next(bytes)
		if err != nil {
			m.stay(ErrCannotFollow)
			return
		}
		bytes = bytes[taken:]
		if ended {
			m.requested(m.requests.request())
		}
	}
}

// requested is told of each request that was sent on the socket.
func (m *move) requested(r request) {
	m.outstanding++
	if m.askAfter > 0 {
		m.askAfter--
	}
	switch r.name {
	case "MULTI":
		m.inMulti = true
	case "EXEC", "DISCARD", "RESET":
		m.inMulti = false
	case "HELLO", "AUTH":
		// Another user may be allowed what this one was not.
		if m.reason == ErrNotLoggedIn || m.reason == ErrNoPermission {
			m.askAfter, m.askBetween = 0, 0
		}
	case "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
		"MONITOR", "SYNC", "PSYNC":
		m.stay(ErrCannotFollow)
	case "CLIENT":
		if r.word == "REPLY" {
			m.stay(ErrCannotFollow)
		}
	}
}

// received takes what came on the socket. What is the program's it leaves at the front of
// bytes, and says how much that is.
func (m *move) received(bytes []byte) (program int, err error) {
	for rest := bytes; len(rest) > 0; {
		switch {
		case m.stage == staying:
			return program + copy(bytes[program:], rest), nil
		case m.stage == moved:
			return program, onlyDoorbells(rest)
		case m.replies.isBetween() && rest[0] == doorbell: // no reply begins with one
			return program, m.enter(rest)
		case m.replies.isBetween():
			m.kind = rest[0]
			m.isAnswer = !m.isPush() && (m.stage == opening || m.stage == starting)
		}
		taken, ended, err := m.replies.next(rest)
		if err != nil {
			if m.stage == opening || m.stage == starting || m.stage == refused {
				return program, violation("something that is no reply")
			}
			m.stay(ErrCannotFollow)
			continue
		}
		part := rest[:taken]
		rest = rest[taken:]
		if m.isAnswer {
			err = m.answerPart(part, ended)
		} else {
			program += copy(bytes[program:], part)
			m.replyPart(ended)
		}
		if err != nil {
			return program, err
		}
	}
	return program, nil
}

// isPush says whether the value that comes is the reply to no request.
func (m *move) isPush() bool {
	return m.kind == '>' || m.kind == '|'
}

// replyPart is told of a part of what is the program's.
func (m *move) replyPart(ended bool) {
	if ended && !m.isPush() {
		m.outstanding--
	}
	if m.outstanding < 0 {
		m.stay(ErrCannotFollow)
	}
}

// answerPart takes a part of the answer to SHM.OPEN or SHM.START.
func (m *move) answerPart(part []byte, ended bool) error {
	m.answerBytes += len(part)
	if m.answerBytes > maxAnswerBytes {
		return violation("an answer that does not end")
	}
	if room := keptAnswerBytes - len(m.answer); len(part) > room {
		part = part[:room]
	}
	m.answer = append(m.answer, part...)
	if !ended {
		return nil
	}
	answer := m.answer
	m.answer, m.answerBytes = nil, 0
	proof := proofIn(string(answer))
	isOffer := string(answer) == okAnswer || m.stage == opening && proof != ""
	switch {
	case strings.HasPrefix(string(answer), "-ERR max number of clients"):
		return refusal(answer) // no answer at all, but the server's last words
	case !isOffer:
		m.refuse(refusal(answer))
	case m.stage == starting:
		return violation("+OK on the socket in answer to SHM.START")
	case m.lost != nil:
		m.refuse(m.lost)
	default:
		m.stage, m.offeredAt, m.proof = offered, time.Now(), proof
	}
	return nil
}

// proofIn is the token in the answer to SHM.OPEN by TCP, if that is what this is.
func proofIn(answer string) string {
	const before, after = "+OK ", "\r\n"
	if !strings.HasPrefix(answer, before) || len(answer) != len(before)+2*tokenBytes+len(after) {
		return ""
	}
	return answer[len(before) : len(answer)-len(after)]
}

// enter is told of a doorbell where a reply could begin.
func (m *move) enter(bytes []byte) error {
	if m.stage != starting {
		return violation("a doorbell before SHM.START")
	}
	m.stage, m.reason, m.isNews = moved, nil, true
	return onlyDoorbells(bytes)
}

// refuse is told why the connection is still on its socket.
func (m *move) refuse(reason error) {
	if m.stage == starting {
		m.stage = refused
	} else {
		m.stage = onSocket
	}
	m.reason, m.isNews = reason, true
	switch {
	case m.lost != nil:
		m.stay(m.lost)
	case errors.Is(reason, ErrNoModule), errors.Is(reason, ErrRefused):
		m.askBetween = least(askAgainMost, most(askAgainFirst, 2*m.askBetween))
		m.askAfter = m.askBetween
	case errors.Is(reason, ErrNoPermission), errors.Is(reason, ErrNotLoggedIn):
		m.askAfter = math.MaxInt // until the next login
	default:
		m.stay(reason)
	}
}

// stay ends the attempts. An answer that is still to come is the handshake's all the same.
func (m *move) stay(reason error) {
	if m.stage == opening || m.stage == starting {
		m.lost = reason
		return
	}
	if m.stage != refused {
		m.stage = staying
	}
	m.lost, m.reason, m.isNews = reason, reason, true
}

// tookBack is told that what was in the ring goes to the socket.
func (m *move) tookBack() {
	m.stage = onSocket
	if m.lost != nil {
		m.stage = staying
	}
}

// onlyDoorbells says that these bytes are nothing else.
func onlyDoorbells(bytes []byte) error {
	for _, b := range bytes {
		if b != doorbell {
			return violation("another byte than a doorbell")
		}
	}
	return nil
}

// openCommand asks for a region. Over TCP it names the mailbox for its descriptor.
func openCommand(mailbox string) string {
	command := "SHM.OPEN " + strconv.Itoa(protocolVersion)
	if mailbox != "" {
		command += " FDSOCKET " + mailbox
	}
	return command + "\r\n"
}

// startCommand accepts the offer of the region with this token.
func startCommand(token [tokenBytes]byte) string {
	return "SHM.START " + hex.EncodeToString(token[:]) + "\r\n"
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func most(a, b int) int {
	return a + b - least(a, b)
}
