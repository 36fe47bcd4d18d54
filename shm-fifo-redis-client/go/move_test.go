package shmfifo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// replyStream is every kind of reply, one after the other, and whether each answers a request.
var replyStream = []struct {
	bytes  string
	isPush bool
}{
	{"+OK\r\n", false}, {"-ERR no\r\n", false}, {":12\r\n", false}, {"$5\r\nhe\r\no\r\n", false},
	{"$-1\r\n", false}, {"$0\r\n\r\n", false}, {"*-1\r\n", false}, {"*0\r\n", false},
	{"*2\r\n*2\r\n:1\r\n$1\r\na\r\n*1\r\n*0\r\n", false}, {"_\r\n", false}, {"#t\r\n", false},
	{",1.5\r\n", false}, {"(12345678901234567890123456789012345678901234567890\r\n", false},
	{"=7\r\ntxt:a\r\n\r\n", false}, {"!3\r\nERR\r\n", false},
	{"%2\r\n+a\r\n:1\r\n+b\r\n%0\r\n", false}, {"~1\r\n+a\r\n", false},
	{">3\r\n+message\r\n+c\r\n$1\r\nx\r\n", true}, {"|1\r\n+ttl\r\n:3\r\n", true},
	{"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", false},
	{"*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n", false},
	{"+" + strings.Repeat("long ", 100) + "\r\n", false},
}

func TestRepliesEndWhereTheyDoHoweverTheyAreCut(t *testing.T) {
	var all []byte
	var ends []int
	for _, reply := range replyStream {
		all = append(all, reply.bytes...)
		ends = append(ends, len(all))
	}
	for size := 1; size <= len(all); size++ {
		var s replyScanner
		var found []int
		for from := 0; from < len(all); {
			part := all[from:least(from+size, len(all))]
			taken, ended, err := s.next(part)
			if err != nil {
				t.Fatal(err)
			}
			from += taken
			if ended {
				found = append(found, from)
			}
		}
		if fmt.Sprint(found) != fmt.Sprint(ends) {
			t.Fatalf("pieces of %d: got %v, want %v", size, found, ends)
		}
	}
}

func TestRequestsAreKnownHoweverTheyAreCut(t *testing.T) {
	const all = "*1\r\n$4\r\nping\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n*1\r\n" +
		"*3\r\n$6\r\nclient\r\n$5\r\nreply\r\n$3\r\noff\r\n*0\r\n*2\r\n$40\r\n" +
		"abcdefghijklmnopqrstuvwxyzabcdefghijklmn\r\n$0\r\n\r\n"
	want := []request{{"PING", ""}, {"SET", "A"}, {"CLIENT", "REPLY"}, {"", ""}, {"ABCDEFGHIJKLMNOPQR", ""}}
	for size := 1; size <= len(all); size++ {
		var s requestScanner
		var found []request
		for from := 0; from < len(all); {
			taken, ended, err := s.next([]byte(all[from:least(from+size, len(all))]))
			if err != nil {
				t.Fatal(err)
			}
			from += taken
			if ended {
				found = append(found, s.request())
			}
		}
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Fatalf("pieces of %d: got %v, want %v", size, found, want)
		}
	}
}

// command is a request as libraries send it.
func command(words ...string) []byte {
	all := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		all += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	return []byte(all)
}

// test sends a request, and says what was to come before it.
func (m *move) test(bytes []byte) step {
	next := m.before(bytes, time.Now())
	if next == send {
		m.sent(bytes)
	}
	return next
}

// hears passes on what came, and returns the program's part of it.
func (m *move) hears(t *testing.T, text string) string {
	t.Helper()
	bytes := []byte(text)
	n, err := m.received(bytes)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes[:n])
}

func TestItAsksBeforeTheFirstRequestAndStartsBeforeItIsSent(t *testing.T) {
	var m move
	if m.test(command("PING")) != ask || m.hears(t, "+OK\r\n") != "" || m.stage != offered {
		t.Fatalf("%+v", m)
	}
	if m.test(command("PING")) != start || m.hears(t, "\x00") != "" || m.stage != moved {
		t.Fatalf("%+v", m)
	}
}

func TestItLetsTheLibraryLogInFirst(t *testing.T) {
	var m move
	for _, login := range [][]byte{command("HELLO", "3", "AUTH", "a", "b"), command("auth", "x"), []byte("*2\r\n$4\r\nAU")} {
		if m.test(login) != send {
			t.Fatalf("asked before %q", login)
		}
		m = move{}
	}
	m.test(command("HELLO", "3"))
	if m.test(command("PING")) != send {
		t.Fatal("asked while a reply is outstanding")
	}
	m.hears(t, "%1\r\n+server\r\n+redis\r\n+PONG\r\n")
	if m.test(command("PING")) != ask {
		t.Fatal("did not ask")
	}
}

func TestTheAnswersAreTakenOutOfWhatTheProgramReads(t *testing.T) {
	const push = ">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n"
	const stream = push + "+OK\r\n" + push + ":7\r\n"
	for size := 1; size <= len(stream); size++ {
		var m move
		m.before(command("INCR", "a"), time.Now())
		m.sent(command("INCR", "a")) // it did not wait
		var got string
		for from := 0; from < len(stream); from += size {
			got += m.hears(t, stream[from:least(from+size, len(stream))])
		}
		if want := push + push + ":7\r\n"; got != want || m.stage != offered || m.outstanding != 0 {
			t.Fatalf("pieces of %d: got %q at %+v", size, got, m)
		}
	}
}

func TestPushesBeforeTheDoorbellAreTheProgramsAlsoWithZeros(t *testing.T) {
	m := move{stage: starting}
	const push = ">1\r\n$3\r\n\x00\x00\x00\r\n"
	if got := m.hears(t, push+"\x00\x00"); got != push || m.stage != moved {
		t.Fatalf("%q %+v", got, m)
	}
}

func TestARefusedConnectionAsksAgainTheLaterTheMoreOftenItWas(t *testing.T) {
	var m move
	ping := command("PING")
	for _, want := range []int{25, 50, 100} {
		if m.test(ping) != ask {
			t.Fatalf("did not ask after %d", want)
		}
		m.hears(t, "-ERR SHM.OPEN: shm.max-sessions is reached\r\n")
		if !errors.Is(m.reason, ErrRefused) || !strings.Contains(m.reason.Error(), "max-sessions") {
			t.Fatal(m.reason)
		}
		for i := 0; i < want; i++ {
			if m.test(ping) != send {
				t.Fatalf("asked again after %d of %d", i, want)
			}
			m.hears(t, "+PONG\r\n")
		}
	}
}

func TestWhoHasNoPermissionIsAskedForAgainAfterALogin(t *testing.T) {
	for answer, want := range map[string]error{"-NOPERM no\r\n": ErrNoPermission, "-NOAUTH no\r\n": ErrNotLoggedIn} {
		var m move
		m.test(command("PING"))
		m.hears(t, answer)
		if m.reason != want {
			t.Fatal(m.reason)
		}
		for i := 0; i < 1000; i++ {
			if m.test(command("PING")) != send {
				t.Fatal("asked again")
			}
			m.hears(t, "+PONG\r\n")
		}
		if m.test(command("AUTH", "a", "b")) != send {
			t.Fatal("asked before the login")
		}
		m.hears(t, "+OK\r\n")
		if m.test(command("PING")) != ask {
			t.Fatal("did not ask after the login")
		}
	}
}

func TestItStaysWhereRepliesCannotBeCounted(t *testing.T) {
	for _, request := range [][]byte{command("SUBSCRIBE", "c"), command("monitor"), command("CLIENT", "Reply", "OFF"),
		[]byte("PING\r\n"), {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, '\n'}} {
		var m move
		if request[0] == '*' {
			m.askAfter = 1
		}
		if m.test(request) != send {
			t.Errorf("%q: it asked", request)
		}
		if m.stage != staying || m.reason != ErrCannotFollow {
			t.Errorf("%q: %+v", request, m)
		}
		if got := m.hears(t, "\x00what\x01ever"); got != "\x00what\x01ever" {
			t.Errorf("%q", got)
		}
	}
}

func TestWhatIsQueuedIsNoMomentToMove(t *testing.T) {
	var m move
	m.askAfter = 1
	m.test(command("MULTI"))
	m.hears(t, "+OK\r\n")
	if m.test(command("INCR", "a")) != send {
		t.Fatal("asked in a transaction")
	}
	m.hears(t, "+QUEUED\r\n")
	m.test(command("EXEC"))
	m.hears(t, "*1\r\n:1\r\n")
	if m.test(command("PING")) != ask {
		t.Fatal("did not ask after it")
	}
}

func TestAnAnswerThatComesLateIsTakenThoughNothingCanFollowIt(t *testing.T) {
	var m move
	m.test(command("SUBSCRIBE", "c"))
	m.sent(command("SUBSCRIBE", "c"))
	if got := m.hears(t, "+OK\r\n*3\r\n+subscribe\r\n+c\r\n:1\r\n"); got != "*3\r\n+subscribe\r\n+c\r\n:1\r\n" {
		t.Fatalf("%q", got)
	}
	if m.stage != staying || m.reason != ErrCannotFollow {
		t.Fatalf("%+v", m)
	}
}

func TestAnOfferThatIsTooOldIsAskedForAnew(t *testing.T) {
	m := move{stage: offered, offeredAt: time.Now().Add(-offerLasts)}
	if m.test(command("PING")) != ask {
		t.Fatalf("%+v", m)
	}
}

func TestAServerThatDoesNotKeepToTheProtocolIsAnError(t *testing.T) {
	for _, bad := range []struct {
		stage stage
		text  string
	}{
		{onSocket, "\x00"}, {opening, "\x00"}, {offered, "\x00"},
		{opening, "what\r\n"}, {starting, "\x01"}, {starting, "+OK\r\n"},
		{starting, "\x00+OK\r\n"}, {moved, "\x01"}, {moved, "\x00\x00+"},
		{opening, "-" + strings.Repeat("x", maxAnswerBytes)},
	} {
		m := move{stage: bad.stage}
		if _, err := m.received([]byte(bad.text)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%.20q in stage %d: %v", bad.text, bad.stage, err)
		}
	}
}

func FuzzMove(f *testing.F) {
	for _, reply := range replyStream {
		f.Add(byte(opening), []byte("+OK\r\n"+reply.bytes), uint(3))
	}
	f.Add(byte(starting), []byte(">1\r\n+a\r\n\x00\x00"), uint(1))
	f.Add(byte(onSocket), []byte("*4000000000\r\n*4000000000\r\n*4000000000\r\n"), uint(5))
	f.Fuzz(func(t *testing.T, first byte, text []byte, size uint) {
		m := move{stage: stage(first % byte(staying+1))}
		size = 1 + size%100
		for len(text) > 0 {
			part := append([]byte(nil), text[:least(int(size), len(text))]...)
			text = text[len(part):]
			n, err := m.received(part)
			if n < 0 || n > len(part) {
				t.Fatalf("%d of %d", n, len(part))
			}
			if err != nil {
				return
			}
		}
		if m.replies.open < 0 || m.replies.skip < 0 || len(m.replies.header) > maxHeader {
			t.Fatalf("%+v", m.replies)
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add(command("SET", "a", "b"), uint(2))
	f.Add([]byte("\n"), uint(1))
	f.Fuzz(func(t *testing.T, text []byte, size uint) {
		var m move
		size = 1 + size%100
		isCommand(text)
		for len(text) > 0 {
			part := text[:least(int(size), len(text))]
			text = bytes.TrimPrefix(text, part)
			m.sent(part)
		}
	})
}
