package shmfifo

import (
	"errors"
	"io"
	"syscall"
	"time"
)

// lookAgain is for how long a look whether the connection is alive will do: a pool that asks before
// each request then costs no system call each.
const lookAgain = time.Millisecond

var errNoRawBytes = errors.New("shmfifo: nobody else writes on the socket")

// SyscallConn implements [syscall.Conn], for pools that look whether an idle connection is still
// alive before they use it again, as go-redis' does.
//
// Control is with the socket's descriptor. Read does not call its function, since what the socket
// has to say is for this package to read. It does not wait: it returns io.EOF if the server has
// ended the connection, and nil if not. Write is an error.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	return rawConn{c}, nil
}

type rawConn struct{ *Conn }

func (r rawConn) Control(f func(fd uintptr)) error {
	return r.raw.Control(f)
}

func (r rawConn) Write(func(fd uintptr) bool) error {
	return errNoRawBytes
}

func (r rawConn) Read(func(fd uintptr) bool) error {
	now := int64(time.Since(r.reader.start))
	if last := r.aliveAt.Load(); last != 0 && now-last < int64(lookAgain) {
		return nil
	}
	ended := false
	err := r.raw.Control(func(fd uintptr) { ended = hasEnded(fd) })
	switch {
	case err != nil:
		return err
	case ended:
		return io.EOF
	}
	r.aliveAt.Store(now)
	return nil
}
