//go:build linux && (amd64 || arm64)

package shmfifo_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// strict is for connections that have to move: with it a request waits for the answer however
// busy the machine is. Those of free may stay on their sockets.
var (
	strict = &shmfifo.Dialer{Strict: true}
	free   = &shmfifo.Dialer{}
)

// client is as much of a library as these tests need.
type client struct {
	net.Conn
	t       testing.TB
	replies *bufio.Reader
}

func connect(t testing.TB, dialer *shmfifo.Dialer, network, address string) *client {
	t.Helper()
	connection, err := dialer.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return &client{connection, t, bufio.NewReader(connection)}
}

func request(words ...string) string {
	all := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		all += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	return all
}

func (c *client) send(words ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, request(words...)); err != nil {
		c.t.Fatal(err)
	}
}

// reply reads one, whatever it is, as text.
func (c *client) reply() (string, error) {
	line, err := c.replies.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	count, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if count < 0 {
			return "nil", nil
		}
		bulk := make([]byte, count+2)
		_, err := io.ReadFull(c.replies, bulk)
		return string(bulk[:count]), err
	case '%':
		count *= 2
		fallthrough
	case '*', '>':
		var parts []string
		for ; count > 0; count-- {
			part, err := c.reply()
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, " "), nil
	case ':', '+':
		return line[1:], nil
	}
	return line, nil
}

func (c *client) expect(want string) {
	c.t.Helper()
	if got, err := c.reply(); err != nil || got != want {
		c.t.Fatalf("got %.200q, %v, want %.200q", got, err, want)
	}
}

func (c *client) ask(want string, words ...string) {
	c.t.Helper()
	c.send(words...)
	c.expect(want)
}

// moves goes on until it has moved.
func (c *client) moves() {
	c.t.Helper()
	for c.conn().Transport() != "shm" {
		c.ask("PONG", "PING")
	}
}

func (c *client) conn() *shmfifo.Conn { return c.Conn.(*shmfifo.Conn) }

func (c *client) isOn(transport string) {
	c.t.Helper()
	if got := c.conn().Transport(); got != transport {
		c.t.Fatalf("on %s instead of %s: %v", got, transport, c.conn().NotMoved())
	}
}

func TestRedisAConnectionMovesByUnixSocketAndTCP(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	for network, address := range map[string]string{"unix": server.Socket, "tcp": "127.0.0.1:" + server.Port} {
		c := connect(t, strict, network, address)
		c.isOn(network)
		if err := c.conn().NotMoved(); err != shmfifo.ErrNotAsked {
			t.Fatal(err)
		}
		c.ask("PONG", "PING")
		c.isOn("shm")
		if err := c.conn().NotMoved(); err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= 1000; i++ {
			c.ask(strconv.Itoa(i), "INCR", "of "+network)
		}
		c.ask("OK", "QUIT")
		if _, err := c.reply(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestRedisTheLoginComesFirst(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t, "--requirepass", "secret")
	for _, login := range [][]string{{"AUTH", "secret"}, {"HELLO", "2", "AUTH", "default", "secret"}} {
		c := connect(t, strict, "unix", server.Socket)
		c.send(login...)
		if reply, err := c.reply(); err != nil || strings.HasPrefix(reply, "-") {
			t.Fatal(reply, err)
		}
		c.isOn("unix")
		c.ask("OK", "SELECT", "1")
		c.isOn("shm")
	}
	c := connect(t, free, "unix", server.Socket)
	c.ask("-NOAUTH Authentication required.", "PING")
	if err := c.conn().NotMoved(); err != shmfifo.ErrNotLoggedIn {
		t.Fatal(err)
	}
	c.ask("OK", "AUTH", "secret")
	c.moves()
}

func TestRedisWithoutTheModuleItStaysAndSaysSo(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.Start(t)
	told := make(chan *shmfifo.Conn, 10)
	c := connect(t, &shmfifo.Dialer{Notify: func(c *shmfifo.Conn) { told <- c }}, "unix", server.Socket)
	for i := 0; i < 100; i++ {
		c.ask("PONG", "PING")
	}
	c.isOn("unix")
	if err := (<-told).NotMoved(); err != shmfifo.ErrNoModule {
		t.Fatal(err)
	}

	c = connect(t, strict, "unix", server.Socket)
	if _, err := io.WriteString(c, request("PING")); !errors.Is(err, shmfifo.ErrNoModule) {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, shmfifo.ErrNoModule) {
		t.Fatal(err)
	}
}

func TestRedisWithoutPermissionItStaysUntilSomebodyElseLogsIn(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	for _, rule := range []string{"ACL SETUSER some on >x ~* +@all -shm.open", "ACL SETUSER more on >x ~* +@all -shm.start"} {
		if reply, err := server.Ask(rule); err != nil || reply != "+OK\r\n" {
			t.Fatal(reply, err)
		}
	}
	for _, user := range []string{"some", "more"} {
		c := connect(t, free, "unix", server.Socket)
		c.ask("OK", "AUTH", user, "x")
		for i := 0; i < 100; i++ {
			c.ask("PONG", "PING")
		}
		c.isOn("unix")
		if err := c.conn().NotMoved(); err != shmfifo.ErrNoPermission {
			t.Fatal(err)
		}
		c.ask("OK", "AUTH", "default", "any")
		c.moves()
		if who, err := server.Ask("CLIENT LIST"); err != nil || strings.Contains(who, "user="+user) {
			t.Fatal(who, err)
		}
	}
}

func TestRedisALimitThatIsLiftedLetsItMoveLater(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	set := func(sessions string) {
		if reply, err := server.Ask("CONFIG SET shm.max-sessions " + sessions); err != nil || reply != "+OK\r\n" {
			t.Fatal(reply, err)
		}
	}
	set("0")
	c := connect(t, free, "unix", server.Socket)
	c.ask("PONG", "PING")
	if err := c.conn().NotMoved(); !errors.Is(err, shmfifo.ErrRefused) {
		t.Fatal(err)
	}
	set("10000")
	c.moves()
}

func TestRedisSubscriptionsMoveBeforeTheyBegin(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	subscriber := connect(t, strict, "unix", server.Socket)
	subscriber.ask("subscribe news 1", "SUBSCRIBE", "news")
	subscriber.isOn("shm")
	publisher := connect(t, strict, "unix", server.Socket)
	for i := 0; i < 1000; i++ {
		publisher.ask("1", "PUBLISH", "news", strconv.Itoa(i))
		subscriber.expect("message news " + strconv.Itoa(i))
	}
	// A reader that waits while somebody else writes.
	read := make(chan string)
	go func() {
		reply, _ := subscriber.reply()
		read <- reply
	}()
	subscriber.send("SUBSCRIBE", "more")
	if got := <-read; got != "subscribe more 2" {
		t.Fatal(got)
	}
}

func TestRedisTransactionsAndBlockingCommandsWork(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	c := connect(t, strict, "unix", server.Socket)
	c.ask("OK", "MULTI")
	c.isOn("shm")
	c.ask("QUEUED", "INCR", "a")
	c.ask("1", "EXEC")
	c.ask("", "BLPOP", "nothing", "0.01")
	other := connect(t, strict, "unix", server.Socket)
	c.send("BLPOP", "list", "0")
	other.ask("1", "LPUSH", "list", "x")
	c.expect("list x")
}

func TestRedisLargeValuesAndPipelinesPassARingOfAnySize(t *testing.T) {
	redistest.Watchdog(t)
	for _, ringBytes := range []string{"4kb", "128kb", "1mb"} {
		server := redistest.WithModule(t)
		if reply, err := server.Ask("CONFIG SET shm.ring-bytes " + ringBytes); err != nil || reply != "+OK\r\n" {
			t.Fatal(reply, err)
		}
		size := 64 << 20
		if testing.Short() {
			size = 4 << 20
		}
		value := make([]byte, size)
		rand.New(rand.NewSource(3)).Read(value)
		c := connect(t, strict, "unix", server.Socket)
		c.ask("OK", "SET", "large", string(value))
		c.send("GET", "large")
		if got, err := c.reply(); err != nil || got != string(value) {
			t.Fatalf("%d bytes came back, others than were sent: %v", len(got), err)
		}
		c.isOn("shm")

		const many = 10_000
		var all strings.Builder
		for i := 0; i < many; i++ {
			all.WriteString(request("ECHO", strings.Repeat("x", i%700)))
		}
		if _, err := io.WriteString(c, all.String()); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < many; i++ {
			c.expect(strings.Repeat("x", i%700))
		}
	}
}

// The first thing that a connection sends is larger than its ring: the writer waits for the
// server to enter while nobody reads.
func TestRedisTheFirstRequestMayBeLargerThanTheRing(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	for i := 0; i < 20; i++ {
		c := connect(t, strict, "unix", server.Socket)
		c.ask("OK", "SET", "first", strings.Repeat("y", 1<<20))
		c.isOn("shm")
	}
}

func TestRedisChecksummedStreamsOfManyConnections(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	rounds := 2000
	if testing.Short() {
		rounds = 300
	}
	var all sync.WaitGroup
	for i := 0; i < 20; i++ {
		c := connect(t, strict, "unix", server.Socket)
		random := rand.New(rand.NewSource(int64(i)))
		all.Add(1)
		go func() {
			defer all.Done()
			var sent sync.WaitGroup
			values := make(chan []byte, 10)
			sent.Add(1)
			go func() {
				defer sent.Done()
				for i := 0; i < rounds; i++ {
					value := make([]byte, random.Intn(3000))
					random.Read(value)
					values <- value
					c.send("ECHO", string(value))
				}
				close(values)
			}()
			for value := range values {
				if got, err := c.reply(); err != nil || !bytes.Equal([]byte(got), value) {
					t.Errorf("other bytes came back: %v", err)
					break
				}
			}
			sent.Wait()
		}()
	}
	all.Wait()
}

func TestRedisDeadlinesEndAWaitAndTheConnectionGoesOn(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	c := connect(t, strict, "unix", server.Socket)
	c.ask("PONG", "PING")
	c.send("BLPOP", "later", "0")
	for i := 0; i < 5; i++ {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		_, err := c.reply()
		var timeout net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	other := connect(t, strict, "unix", server.Socket)
	other.ask("1", "LPUSH", "later", "x")
	c.expect("later x")
}

func TestRedisAServerThatIsKilledEndsWhateverWaits(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	const count = 20
	ends := make(chan error, count)
	for i := 0; i < count; i++ {
		c := connect(t, strict, "unix", server.Socket)
		c.ask("PONG", "PING")
		c.send("BLPOP", "nothing", "0")
		go func() {
			_, err := c.reply()
			ends <- err
		}()
	}
	server.Kill()
	for i := 0; i < count; i++ {
		if err := <-ends; err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestRedisAWriterThatWaitsForSpaceHearsThatTheServerWasKilled(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	c := connect(t, strict, "unix", server.Socket)
	c.ask("OK", "CLIENT", "PAUSE", "100000")
	c.isOn("shm")
	end := make(chan error)
	go func() {
		for {
			if _, err := io.WriteString(c, request("SET", "a", strings.Repeat("z", 1<<20))); err != nil {
				end <- err
				return
			}
		}
	}()
	server.Kill()
	if err := <-end; err == nil {
		t.Fatal("it wrote on")
	}
}

func TestRedisNothingIsLeftOfConnectionsThatWereClosed(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	mappings := func() int {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(maps), "/memfd:")
	}
	round := func(network, address string) {
		c := connect(t, strict, network, address)
		c.ask("PONG", "PING")
		c.isOn("shm")
		c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	round("unix", server.Socket)
	descriptors, mapped := open(), mappings()
	for i := 0; i < 200; i++ {
		round("unix", server.Socket)
		round("tcp", "127.0.0.1:"+server.Port)
	}
	if now := open(); now > descriptors {
		t.Errorf("%d descriptors became %d", descriptors, now)
	}
	if now := mappings(); now > mapped {
		t.Errorf("%d mappings became %d", mapped, now)
	}
}

func TestRedisItStaysTheSameClient(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	c := connect(t, strict, "unix", server.Socket)
	c.send("HELLO", "3")
	if _, err := c.reply(); err != nil {
		t.Fatal(err)
	}
	c.ask("OK", "CLIENT", "SETNAME", "me")
	c.isOn("shm")
	c.ask("me", "CLIENT", "GETNAME")
	if sessions := server.Info(t, "shm_sessions"); sessions != "1" {
		t.Fatal(sessions)
	}
}
