//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

func TestAPoolCanLookWhetherAConnectionIsAlive(t *testing.T) {
	onSocket := func(t *testing.T) (*Conn, *peer) { return newPair(t, patient) }
	inMemory := func(t *testing.T) (*Conn, *peer) { return newMoved(t, minRingBytes) }
	for name, make := range map[string]func(*testing.T) (*Conn, *peer){"on its socket": onSocket, "moved": inMemory} {
		t.Run(name, func(t *testing.T) {
			c, p := make(t)
			look := func() error {
				c.aliveAt.Store(0) // that was long ago
				raw, err := c.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				return raw.Read(func(uintptr) bool { panic("it is given bytes") })
			}
			if err := look(); err != nil {
				t.Fatal(err)
			}
			p.sends("\x00") // does not hide the end
			if err := look(); err != nil {
				t.Fatal(err)
			}
			p.Close()
			if err := look(); err != io.EOF {
				t.Fatal(err)
			}
			c.Close()
			if err := look(); !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
		})
	}
}

func TestTheSocketsOptionsCanBeRead(t *testing.T) {
	c, _ := newMoved(t, minRingBytes)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	kind := 0
	if err := raw.Control(func(fd uintptr) { kind, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE) }); err != nil {
		t.Fatal(err)
	}
	if kind != syscall.SOCK_STREAM || err != nil {
		t.Fatal(kind, err)
	}
}
