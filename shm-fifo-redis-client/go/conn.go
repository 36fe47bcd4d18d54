package shmfifo

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection to a Redis server that moves to shared memory by itself. It is made by
// a [Dialer].
//
// It is a [net.Conn]: any goroutines may use it at the same time, deadlines apply to what is
// under way as well, and errors are those of a socket: io.EOF, net.ErrClosed,
// os.ErrDeadlineExceeded (whose Timeout is true) and ErrProtocol, the latter three within a
// *net.OpError.
type Conn struct {
	*bell
	settings settings
	isUnix   bool // so memory comes by the socket itself

	// One reader and one writer at a time. Either holds its lock while it waits.
	reading           sync.Mutex
	writing           sync.Mutex
	in                *consumer // once this side has entered; for the reader
	greeted           int       // how much of the answer to SHM.START was read from the ring
	out               *producer // once SHM.START was sent; for the writer
	answer            word64    // the position of the answer to SHM.START; for the writer
	held              []byte    // was in the ring, and goes to the socket before all else; for the writer
	heardIn, heardOut [256]byte // for what comes on the socket while either listens
	spinIn            spinner
	spinOut           spinner

	// What both of them need to know. Held for a moment only, and for no system call that waits.
	mu         sync.Mutex
	move       move
	region     *region  // the one that is offered or in use
	descriptor int      // came last on the unix socket; -1 is none
	mailbox    *mailbox // of the TCP connection that has asked
	control    []byte   // for what comes beside the socket's bytes; for who listens
	pending    []byte   // came on the socket, while the writer listened, for the reader
	failure    error    // this side has ended it because of this
	endError   error    // the socket ended so

	started   atomic.Bool // SHM.START was sent
	entered   atomic.Bool // the server has entered
	backs     atomic.Bool // it has refused to, and what is in the ring goes to the socket
	ended     atomic.Bool // the socket has ended
	hasFailed atomic.Bool // there is a failure
	isClosed  atomic.Bool
	aliveAt   atomic.Int64 // when it was last looked at for that, in nanoseconds of its life
}

func newConn(socket net.Conn, settings settings) *Conn {
	c := &Conn{bell: newBell(socket), settings: settings, descriptor: -1}
	_, c.isUnix = socket.(*net.UnixConn)
	c.hear = c.hearSocket
	c.spinIn, c.spinOut = newSpinner(settings.spin), newSpinner(settings.spin)
	c.move.reason = ErrNotAsked
	if reason := withoutAsking(socket); reason != nil {
		c.move.stay(reason)
	}
	return c
}

// withoutAsking is why it is certain that the server would refuse.
func withoutAsking(socket net.Conn) error {
	if !supported {
		return ErrUnsupported
	}
	switch remote := socket.RemoteAddr().(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		own, ok := socket.LocalAddr().(*net.TCPAddr)
		if ok && (remote.IP.IsLoopback() || remote.IP.Equal(own.IP)) {
			return nil
		}
	}
	return ErrOtherHost
}

// Transport is what the connection uses now: "shm", or the network of its socket ("unix",
// "tcp").
func (c *Conn) Transport() string {
	if c.entered.Load() {
		return "shm"
	}
	return c.socket.RemoteAddr().Network()
}

// NotMoved says why the connection is still on its socket: one of this package's errors, by
// errors.Is; nil once it has moved.
func (c *Conn) NotMoved() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.move.reason
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if err := c.usable(c.reader); err != nil || len(p) == 0 {
		return 0, c.opError("read", err)
	}
	if c.in == nil {
		if n, err := c.readSocket(p); n > 0 || err != nil {
			return n, c.opError("read", err)
		}
	}
	n, err := c.readRing(p)
	return n, c.opError("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.write(p)
	if c.settle(c.writer) != nil {
		c.wake(c.reader) // whose deadline may be later
	}
	if err == io.EOF {
		err = syscall.EPIPE // heard while it waited for space
	}
	return n, c.opError("write", err)
}

func (c *Conn) write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.usable(c.writer); err != nil || len(p) == 0 {
		return 0, err
	}
	if c.out == nil {
		if err := c.takeBack(c.writer); err != nil {
			return 0, err
		}
		if err := c.tryMove(p); err != nil {
			return 0, err
		}
	}
	n := 0
	if c.out != nil {
		var err error
		if n, err = c.writeRing(p); err != nil || n == len(p) {
			return n, err
		}
		// The server has refused to enter.
	}
	more, err := c.writeSocket(p[n:])
	return n + more, err
}

// Close implements net.Conn. What was written before is still executed, as on a socket.
func (c *Conn) Close() error {
	if c.isClosed.Swap(true) {
		return c.opError("close", net.ErrClosed)
	}
	close(c.done)
	c.mu.Lock()
	if c.region != nil {
		out, in := c.region.attacher()
		// ORDERING E4 (close): after the last positions.
		out.closed.store(1)
		in.closed.store(1)
	}
	c.mu.Unlock()
	err := c.socket.Close()
	if c.hasFailed.Load() {
		err = nil // that has closed it
	}

	// Whoever reads or writes is on the way out, and nobody comes after.
	c.reading.Lock()
	defer c.reading.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropOffer()
	return err
}

// LocalAddr implements net.Conn: the socket's.
func (c *Conn) LocalAddr() net.Addr { return c.socket.LocalAddr() }

// RemoteAddr implements net.Conn: the socket's.
func (c *Conn) RemoteAddr() net.Addr { return c.socket.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.isClosed.Load() {
		return c.opError("set", net.ErrClosed)
	}
	return c.setDeadline(c.reader, t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.isClosed.Load() {
		return c.opError("set", net.ErrClosed)
	}
	err := c.setDeadline(c.writer, t)
	if err == nil && !c.started.Load() {
		err = c.writeUntil(c.writer)
	}
	return err
}

// usable says why w cannot go on.
func (c *Conn) usable(w *waiter) error {
	switch {
	case c.isClosed.Load():
		return net.ErrClosed
	case c.hasFailed.Load():
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.failure
	case w.isLate():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// fail ends the connection: the server is told by the end of the socket.
func (c *Conn) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
		if isTimeout(err) {
			c.failure = net.ErrClosed // for whoever comes later: it is of no use to try again
		}
		c.hasFailed.Store(true)
		_ = c.socket.Close()
		c.reader.tell()
		c.writer.tell()
		return err
	}
	return c.failure
}

// opError is how package net reports errors.
func (c *Conn) opError(op string, err error) error {
	if err != nil && c.isClosed.Load() {
		err = net.ErrClosed // also if the server's answer to that came first
	} else if errors.Is(err, net.ErrClosed) && c.hasFailed.Load() {
		err = c.usable(c.reader) // the other side knows why
	}
	var already *net.OpError
	if err == nil || err == io.EOF || errors.As(err, &already) {
		return err
	}
	remote := c.RemoteAddr()
	return &net.OpError{Op: op, Net: remote.Network(), Source: c.LocalAddr(), Addr: remote, Err: err}
}
