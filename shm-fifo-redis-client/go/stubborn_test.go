//go:build linux && (amd64 || arm64)

package shmfifo_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// stubborn goes on after each deadline that has passed, also one that had when it was set.
type stubborn struct {
	net.Conn
	random *rand.Rand
}

func (s stubborn) deadline() time.Time {
	return time.Now().Add(time.Duration(s.random.Intn(1000)-200) * time.Microsecond)
}

func (s stubborn) Read(p []byte) (int, error) {
	for {
		_ = s.SetReadDeadline(s.deadline())
		if n, err := s.Conn.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

func (s stubborn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		_ = s.SetWriteDeadline(s.deadline())
		count, err := s.Conn.Write(p[n:])
		n += count
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	return n, nil
}

// From the first request on, which moves it or does not: deadlines lose nothing and double nothing.
func TestRedisWhoGoesOnAfterEachDeadlineLosesNothing(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	if reply, err := server.Ask("ACL SETUSER nostart on nopass +@all ~* -shm.start"); err != nil || reply != "+OK\r\n" {
		t.Fatal(reply, err)
	}
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for round := 0; round < rounds; round++ {
		for network, address := range map[string]string{"unix": server.Socket, "tcp": "127.0.0.1:" + server.Port} {
			for _, user := range []string{"default", "nostart"} {
				c := connect(t, free, network, address)
				c.ask("OK", "AUTH", user, "x")
				echoes(t, c, int64(round))
				c.Close()
			}
		}
	}
	var moved int
	if _, err := fmt.Sscan(server.Info(t, "shm_total_sessions"), &moved); err != nil || moved == 0 {
		t.Fatal("none has moved")
	}
}

// echoes sends requests without waiting for replies, and reads all of them.
func echoes(t *testing.T, c *client, seed int64) {
	t.Helper()
	const requests = 200
	text := func(i int) string { return fmt.Sprint(i, strings.Repeat("e", i*i%20_000)) }
	written := make(chan error, 1)
	go func() {
		writer := bufio.NewWriter(stubborn{c.Conn, rand.New(rand.NewSource(seed))})
		for i := 0; i < requests; i++ {
			_, _ = io.WriteString(writer, request("ECHO", text(i)))
		}
		written <- writer.Flush()
	}()
	c.replies.Reset(stubborn{c.Conn, rand.New(rand.NewSource(-seed))})
	for i := 0; i < requests; i++ {
		c.expect(text(i))
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}
