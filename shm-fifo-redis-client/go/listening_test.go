//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// A Read and a Write that both wait take turns on the socket: what either hears for the program
// comes in the order in which it was sent.
func TestWhatTheWriterHearsKeepsItsPlaceAmongWhatTheReaderHears(t *testing.T) {
	// More threads than CPUs, so that one is interrupted everywhere.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	const rounds, pushes = 10, 20_000
	for round := 0; round < rounds; round++ {
		c, p := newPair(t, patient)
		go func() {
			p.reads("SHM.OPEN 2\r\n")
			for i := 0; i < pushes; i++ {
				if _, err := fmt.Fprintf(p, ">1\r\n:%05d\r\n", i); err != nil {
					return // the reader has failed
				}
			}
			p.sends("-ERR SHM.OPEN: no\r\n")
			p.reads(request1)
			p.sends("+PONG\r\n")
		}()
		written := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c, request1)
			written <- err
		}()
		for i := 0; i < pushes; i++ {
			reads(t, c, fmt.Sprintf(">1\r\n:%05d\r\n", i))
		}
		reads(t, c, "+PONG\r\n")
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPushThatTheWriterHearsWithTheDoorbellIsRead(t *testing.T) {
	const push, reply = ">1\r\n+push\r\n", "+PONG\r\n"
	for round := 0; round < 100; round++ {
		c, p := newPair(t, patient)
		go func() {
			p.offers(p.region(minRingBytes))
			p.reads(startOfTests)
			_, _ = p.out.write([]byte("+OK\r\n" + reply))
			p.sends(push + "\x00")
			for got := 0; got < 3*minRingBytes; { // the writer waits for space until then
				got += len(p.hears())
				if p.in.takeSleeperNow() {
					p.sends("\x00")
				}
			}
		}()
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(append([]byte(request1), make([]byte, 3*minRingBytes)...))
			written <- err
		}()
		reads(t, c, push+reply)
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		c.Close()
		p.Close()
	}
}

// Whoever hears more, while the ring of a refused start is taken back, must not have it taken back
// once more: its memory is gone by then.
func TestARefusedStartIsTakenBackOnce(t *testing.T) {
	for round := 0; round < 20; round++ {
		c, p := newRefused(t)
		p.sends("-BUSY a script runs\r\n")
		if _, err := c.hearSocket(c.reader, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		p.sends(">1\r\n+push\r\n")
		c.mu.Lock() // both get to where they need it
		var both sync.WaitGroup
		both.Add(2)
		go func() {
			defer both.Done()
			_, _ = c.hearSocket(c.reader, make([]byte, 100))
		}()
		for hasBytes(c) {
			runtime.Gosched()
		}
		go func() {
			defer both.Done()
			_ = c.settle(c.writer)
		}()
		for c.started.Load() {
			runtime.Gosched()
		}
		c.mu.Unlock()
		both.Wait()
		if c.backs.Load() {
			t.Fatal("it would be taken back again")
		}
		p.reads(request1)
	}
}

// hasBytes says whether there are some on the socket.
func hasBytes(c *Conn) bool {
	n := 0
	_ = c.raw.Control(func(fd uintptr) {
		n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n > 0
}

func TestWhoListensCanBeWoken(t *testing.T) {
	c, p := newPair(t, patient)
	listens := make(chan struct{})
	c.hear = func(w *waiter, target []byte) (int, error) {
		listens <- struct{}{}
		return c.hearSocket(w, target)
	}
	go func() {
		<-listens
		c.wake(c.reader)
		<-listens
		p.sends("+OK\r\n")
	}()
	reads(t, c, "+OK\r\n")
}
