//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// tcpPeer plays the server on a TCP connection: the memory comes beside that.
type tcpPeer struct {
	*peer
	socket net.Conn
	bytes  *bufio.Reader
}

func newTCPPair(t *testing.T) (*Conn, *tcpPeer) {
	t.Helper()
	redistest.Watchdog(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(socket, patient)
	t.Cleanup(func() {
		accepted.Close()
		c.Close()
	})
	return c, &tcpPeer{&peer{t: t}, accepted, bufio.NewReader(accepted)}
}

func (p *tcpPeer) reads(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.bytes, got); err != nil || string(got) != want {
		p.t.Errorf("the server read %q, %v, instead of %q", got, err, want)
	}
}

func (p *tcpPeer) sends(text string) {
	if _, err := io.WriteString(p.socket, text); err != nil {
		p.t.Error(err)
	}
}

// proof is what the server says of the memory that the tests make.
const proof = "000102030405060708090a0b0c0d0e0f"

// offers answers SHM.OPEN with new memory.
func (p *tcpPeer) offers() {
	p.t.Helper()
	p.offersAs(proof)
}

// offersAs does that, where the server's own memory has this token.
func (p *tcpPeer) offersAs(proof string) {
	p.t.Helper()
	line, err := p.bytes.ReadString('\n')
	name := strings.TrimSuffix(strings.TrimPrefix(line, "SHM.OPEN 2 FDSOCKET "), "\r\n")
	to := &net.UnixAddr{Name: "@" + name, Net: "unixgram"}
	sender, err2 := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil || err2 != nil {
		p.t.Fatal(err, err2)
	}
	defer sender.Close()
	rights := syscall.UnixRights(int(p.region(minRingBytes).Fd()))
	if _, _, err := sender.WriteMsgUnix([]byte{doorbell}, rights, to); err != nil {
		p.t.Error(err)
	}
	p.sends("+OK " + proof + "\r\n")
}

// write sends a request, and says when it has gone.
func write(c net.Conn, text string) chan error {
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, text)
		written <- err
	}()
	return written
}

// Whoever is first with a datagram does not know the token of the server's memory.
func TestMemoryThatSomebodyElseHasSentIsNotUsed(t *testing.T) {
	c, p := newTCPPair(t)
	written := write(c, request1)
	p.offersAs(strings.Repeat("0", len(proof)))
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	p.reads(request1)
	if reason := c.NotMoved(); !errors.Is(reason, ErrNotAttached) {
		t.Fatal(reason)
	}
}

// The answer to SHM.OPEN came on the connection, and named the memory: it is the server's.
func TestByTCPARequestIsInTheRingBeforeTheServerAnswersToo(t *testing.T) {
	c, p := newTCPPair(t)
	written := write(c, request1)
	p.offers()
	p.reads(startOfTests)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if got := p.hears(); got != request1 || c.Transport() != "tcp" {
		t.Fatalf("%q is in the ring of a connection by %s", got, c.Transport())
	}
	_, _ = p.out.write([]byte("+OK\r\n+PONG\r\n"))
	p.sends("\x00")
	reads(t, c, "+PONG\r\n")
	if c.Transport() != "shm" {
		t.Fatal(c.NotMoved())
	}
}
