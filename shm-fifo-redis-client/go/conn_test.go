//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// peer plays the server by hand.
type peer struct {
	*net.UnixConn
	t     testing.TB
	bytes *bufio.Reader
	out   *producer
	in    *consumer
}

// patient is for tests whose server answers, on a machine that may be busy.
var patient = settings{patience: time.Minute}

// newPair is a connection, and its server.
func newPair(t testing.TB, settings settings) (*Conn, *peer) {
	t.Helper()
	redistest.Watchdog(t)
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(socket, settings)
	t.Cleanup(func() {
		accepted.Close()
		c.Close()
	})
	return c, &peer{UnixConn: accepted, t: t, bytes: bufio.NewReader(accepted)}
}

// reads expects these bytes on the socket.
func (p *peer) reads(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p.bytes, got); err != nil || string(got) != want {
		p.t.Errorf("the server read %q, %v, instead of %q", got, err, want)
	}
}

func (p *peer) sends(text string) {
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Error(err)
	}
}

// offers answers SHM.OPEN with a file, if there is one.
func (p *peer) offers(file *os.File) {
	p.t.Helper()
	p.reads("SHM.OPEN 2\r\n")
	var rights []byte
	if file != nil {
		rights = syscall.UnixRights(int(file.Fd()))
	}
	if _, _, err := p.WriteMsgUnix([]byte("+OK\r\n"), rights, nil); err != nil {
		p.t.Error(err)
	}
}

const startOfTests = "SHM.START 000102030405060708090a0b0c0d0e0f\r\n"

// region is one whose other end is the peer's.
func (p *peer) region(ringBytes uint64) *os.File {
	p.t.Helper()
	file := goodRegion(ringBytes).create(p.t)
	region, err := attach(int(file.Fd()))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(region.unmap)
	p.out, p.in = region.creator()
	return file
}

// enters answers SHM.START.
func (p *peer) enters() {
	p.t.Helper()
	p.reads(startOfTests)
	p.says("+OK\r\n") // and rings: the parked words are set from the beginning
}

// says writes into the ring and rings if need be.
func (p *peer) says(text string) {
	if _, err := p.out.write([]byte(text)); err != nil {
		p.t.Error(err)
	}
	if p.out.takeSleeper() {
		p.sends("\x00")
	}
}

// hears is what is in the ring at the moment.
func (p *peer) hears() string {
	target := make([]byte, p.in.ring.bytes)
	n, err := p.in.read(target)
	if err != nil {
		p.t.Error(err)
	}
	return string(target[:n])
}

// newMoved is a connection in shared memory, with a reply read, and its server.
func newMoved(t testing.TB, ringBytes uint64) (*Conn, *peer) {
	t.Helper()
	c, p := newPair(t, patient)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.offers(p.region(ringBytes))
		p.enters()
		p.says("+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, "+PONG\r\n")
	<-done
	if got := p.hears(); got != request1 {
		t.Fatalf("%q is in the ring", got)
	}
	if c.Transport() != "shm" {
		t.Fatal(c.NotMoved())
	}
	return c, p
}

const request1 = "*1\r\n$4\r\nPING\r\n"

func writes(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if n, err := io.WriteString(c, text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

func reads(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, instead of %q", got[:n], err, want)
	}
}

func TestARequestIsInTheRingBeforeTheServerAnswersAndNobodyIsRung(t *testing.T) {
	c, p := newPair(t, patient)
	offered := make(chan struct{})
	go func() {
		defer close(offered)
		p.offers(p.region(minRingBytes))
	}()
	writes(t, c, request1)
	<-offered
	p.reads(startOfTests)
	if got := p.hears(); got != request1 {
		t.Fatalf("%q", got)
	}
	if c.Transport() != "unix" {
		t.Fatal("it has moved already")
	}
	_ = p.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := p.bytes.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came on the socket", n)
	}
}

func TestPushesAroundTheMoveArriveInOrder(t *testing.T) {
	c, p := newPair(t, patient)
	go func() {
		p.reads("SHM.OPEN 2\r\n")
		p.sends(">1\r\n+one\r\n")
		rights := syscall.UnixRights(int(p.region(minRingBytes).Fd()))
		if _, _, err := p.WriteMsgUnix([]byte("+OK\r\n>1\r\n+two\r\n"), rights, nil); err != nil {
			t.Error(err)
		}
		p.reads(startOfTests)
		p.sends(">1\r\n+three\r\n")
		p.says("+OK\r\n")
		p.says(">1\r\n+four\r\n+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, ">1\r\n+one\r\n>1\r\n+two\r\n>1\r\n+three\r\n>1\r\n+four\r\n+PONG\r\n")
}

func TestARefusedStartSendsWhatIsInTheRingOnTheSocket(t *testing.T) {
	for _, size := range []int{10, 3000, 100_000} { // less than the ring, and more
		c, p := newPair(t, patient)
		value := strings.Repeat("v", size)
		set := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n", size, value)
		go func() {
			p.offers(p.region(minRingBytes))
			p.reads(startOfTests)
			p.sends("-BUSY a script runs\r\n")
			p.reads(set)
			p.sends("+OK\r\n")
			p.reads(request1)
			p.sends("+PONG\r\n")
		}()
		writes(t, c, set)
		reads(t, c, "+OK\r\n")
		writes(t, c, request1)
		reads(t, c, "+PONG\r\n")
		if !errors.Is(c.NotMoved(), ErrRefused) || !strings.Contains(c.NotMoved().Error(), "BUSY") {
			t.Fatal(c.NotMoved())
		}
	}
}

func TestAServerThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	c, p := newPair(t, settings{patience: time.Millisecond})
	writes(t, c, request1)
	p.offers(p.region(minRingBytes))
	p.reads(request1)
	p.sends("+PONG\r\n")
	reads(t, c, "+PONG\r\n")

	go func() {
		p.enters()
		p.says("+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, "+PONG\r\n")
	if c.Transport() != "shm" {
		t.Fatal(c.NotMoved())
	}
}

func TestAReaderThatWaitsAlreadyDoesNotHinderTheMove(t *testing.T) {
	c, p := newPair(t, patient)
	read := make(chan string)
	go func() {
		got := make([]byte, 7)
		_, err := io.ReadFull(c, got)
		read <- fmt.Sprint(string(got), err)
	}()
	go func() {
		p.offers(p.region(minRingBytes))
		p.enters()
		p.says("+PONG\r\n")
	}()
	writes(t, c, request1)
	if got := <-read; got != "+PONG\r\n<nil>" {
		t.Fatal(got)
	}
	if c.Transport() != "shm" {
		t.Fatal(c.NotMoved())
	}
}

func TestAnOfferThatCannotBeUsedLeavesItOnTheSocket(t *testing.T) {
	unsealed := goodRegion(minRingBytes)
	unsealed.seals = 0
	for name, file := range map[string]*os.File{"none": nil, "unsealed": unsealed.create(t)} {
		c, p := newPair(t, patient)
		go func() {
			p.offers(file)
			p.reads(request1)
			p.sends("+PONG\r\n")
		}()
		writes(t, c, request1)
		reads(t, c, "+PONG\r\n")
		if err := c.NotMoved(); !errors.Is(err, ErrNoDescriptor) && !errors.Is(err, ErrNotAttached) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDescriptorsThatNobodyAskedForAreClosed(t *testing.T) {
	c, p := newPair(t, patient)
	go func() {
		file := p.region(minRingBytes)
		p.reads("SHM.OPEN 2\r\n")
		many := syscall.UnixRights(int(file.Fd()), int(file.Fd()), int(file.Fd()))
		if _, _, err := p.WriteMsgUnix([]byte("+OK\r\n"), many, nil); err != nil {
			t.Error(err)
		}
		p.enters()
		p.says("+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, "+PONG\r\n")
	if c.descriptor != -1 {
		t.Fatal("one is kept")
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	regions := 0
	for _, entry := range entries {
		if link, _ := os.Readlink("/proc/self/fd/" + entry.Name()); strings.HasPrefix(link, "/memfd:region") {
			regions++
		}
	}
	if regions != 1 { // the peer's own
		t.Fatalf("%d descriptors of it are open", regions)
	}
}

func TestAHostileServerEndsItsOwnConnection(t *testing.T) {
	attacks := map[string]func(p *peer){
		"a position too far":         func(p *peer) { p.out.tail.store(1 << 40) },
		"a position that went back":  func(p *peer) { p.out.tail.store(1) },
		"another byte on the socket": func(p *peer) { p.sends("\x01") },
		"a reply on the socket":      func(p *peer) { p.sends("+PONG\r\n") },
	}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			c, p := newMoved(t, minRingBytes)
			attack(p)
			p.sends("\x00")
			_, err := c.Read(make([]byte, 10))
			var op *net.OpError
			if !errors.Is(err, ErrProtocol) || !errors.As(err, &op) {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("another greeting", func(t *testing.T) {
		c, p := newPair(t, patient)
		go func() {
			p.offers(p.region(minRingBytes))
			p.reads(startOfTests)
			p.says("-NO\r\n")
		}()
		writes(t, c, request1)
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
	})
	t.Run("a head that cannot be", func(t *testing.T) {
		c, p := newMoved(t, minRingBytes)
		p.in.head.store(1 << 50)
		if _, err := c.Write(make([]byte, 2*minRingBytes)); !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
	})
	t.Run("a refusal after it entered", func(t *testing.T) {
		c, p := newPair(t, patient)
		go func() {
			p.offers(p.region(minRingBytes))
			p.reads(startOfTests)
			_, _ = p.out.write([]byte("+OK\r\n"))
			p.sends("-ERR no\r\n")
		}()
		writes(t, c, request1)
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, ErrProtocol) {
			t.Fatal(err)
		}
	})
}

// A server that rings without end, or changes its words all the time, makes nobody wait for
// longer than the deadline says.
func TestADeadlineEndsAWaitWhateverTheServerDoes(t *testing.T) {
	c, p := newMoved(t, minRingBytes)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = p.SetWriteDeadline(time.Now().Add(time.Millisecond))
				_, _ = p.Write([]byte{0, 0, 0})
			}
		}
	}()
	_ = c.SetDeadline(time.Now().Add(30 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_, err = c.Write(make([]byte, 2*minRingBytes))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	close(stop)
	<-stopped
}

func TestADeadlineMayBeChangedWhileOneWaits(t *testing.T) {
	c, _ := newMoved(t, minRingBytes)
	for name, wait := range map[string]func() error{
		"read":  func() error { _, err := c.Read(make([]byte, 1)); return err },
		"write": func() error { _, err := c.Write(make([]byte, 3*minRingBytes)); return err },
	} {
		_ = c.SetDeadline(time.Time{})
		ended := make(chan error)
		go func() { ended <- wait() }()
		for !c.reader.waits.Load() && !c.writer.waits.Load() {
			time.Sleep(time.Millisecond)
		}
		_ = c.SetDeadline(time.Now().Add(time.Hour))
		_ = c.SetDeadline(time.Unix(1, 0))
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseEndsWhoeverWaits(t *testing.T) {
	c, p := newMoved(t, minRingBytes)
	ended := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		_, err := c.Write(make([]byte, 3*minRingBytes))
		ended <- err
	}()
	for !c.reader.waits.Load() || !c.writer.waits.Load() {
		time.Sleep(time.Millisecond)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 2; i++ {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	if p.in.producerClosed.load() == 0 || p.out.consumerClosed.load() == 0 {
		t.Fatal("the server was not told")
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func TestWhatWasWrittenBeforeTheEndIsRead(t *testing.T) {
	ends := map[string]func(p *peer){
		"closed":      func(p *peer) { p.out.closed.store(1); p.in.closed.store(1); p.sends("\x00") },
		"killed":      func(p *peer) { p.Close() },
		"half closed": func(p *peer) { _ = p.CloseWrite() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			c, p := newMoved(t, minRingBytes)
			p.says("+last\r\n")
			end(p)
			reads(t, c, "+last\r\n")
			for i := 0; i < 2; i++ {
				if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Fatal(n, err)
				}
			}
			if _, err := c.Write(make([]byte, 3*minRingBytes)); !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
		})
	}
}

func TestStrictRefusalsAreErrorsOfTheRequestThatFound(t *testing.T) {
	c, p := newPair(t, settings{strict: true})
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		p.reads("SHM.OPEN 2\r\n")
		p.sends("-ERR SHM.OPEN: no\r\n")
	}()
	if _, err := c.Write([]byte(request1)); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
	<-answered
	if _, err := p.bytes.ReadByte(); err != io.EOF {
		t.Fatalf("the request went on: %v", err)
	}
}

// The two ends of a moved connection, both as Go's own: for tests that need no server.
func newPipe(t testing.TB, ringBytes uint64) (net.Conn, net.Conn) {
	c, p := newMoved(t, ringBytes)
	other := &Conn{bell: newBell(p.UnixConn), isUnix: true, out: p.out, in: p.in, greeted: len(okAnswer), descriptor: -1}
	other.hear = other.hearSocket
	other.move.stage = moved
	other.answer = other.in.tail
	other.spinIn, other.spinOut = newSpinner(0), newSpinner(0)
	other.spinIn.place, other.spinOut.place = ofReader(p.out, p.in), ofWriter(p.out, p.in)
	other.entered.Store(true)
	other.started.Store(true)
	return c, other
}

func TestStreamsBothWaysAtOnceArriveWhole(t *testing.T) {
	a, b := newPipe(t, 2*minRingBytes)
	total := 32 << 20
	if testing.Short() {
		total = 4 << 20
	}
	done := make(chan error, 4)
	for i, way := range [][2]net.Conn{{a, b}, {b, a}} {
		i, way := i, way
		go func() {
			random := rand.New(rand.NewSource(int64(i)))
			for left := total; left > 0; {
				part := make([]byte, least(left, 1+random.Intn(20_000)))
				for k := range part {
					part[k] = byte((total - left + k) * 31 >> 3)
				}
				if _, err := way[0].Write(part); err != nil {
					done <- err
					return
				}
				left -= len(part)
			}
			done <- nil
		}()
		go func() {
			want := make([]byte, 8000)
			part := make([]byte, len(want))
			for got := 0; got < total; {
				n, err := way[1].Read(part)
				if err != nil {
					done <- err
					return
				}
				for k := range want[:n] {
					want[k] = byte((got + k) * 31 >> 3)
				}
				if !bytes.Equal(part[:n], want[:n]) {
					done <- fmt.Errorf("other bytes behind %d", got)
					return
				}
				got += n
			}
			done <- nil
		}()
	}
	for i := 0; i < cap(done); i++ {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// newRefused is a connection whose server has yet to refuse to enter, with a request in the ring.
func newRefused(t *testing.T) (*Conn, *peer) {
	t.Helper()
	c, p := newPair(t, patient)
	offered := make(chan struct{})
	go func() {
		defer close(offered)
		p.offers(p.region(minRingBytes))
		p.reads(startOfTests)
	}()
	writes(t, c, request1)
	<-offered
	return c, p
}

func TestARefusalAfterTheWriteDeadlineLosesNothing(t *testing.T) {
	c, p := newRefused(t)
	_ = c.SetWriteDeadline(time.Unix(1, 0))
	go func() {
		p.sends("-BUSY a script runs\r\n")
		p.reads(request1)
		p.sends("+PONG\r\n")
	}()
	reads(t, c, "+PONG\r\n")
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestARefusalAtTheWriteDeadlineIsLeftToTheReader(t *testing.T) {
	c, p := newRefused(t)
	c.hear = func(w *waiter, target []byte) (int, error) {
		n, err := c.hearSocket(w, target)
		if c.backs.Load() {
			c.writer.deadline.Store(1) // passes now
		}
		return n, err
	}
	long := strings.Repeat("x", 2*minRingBytes)
	written := make(chan error)
	go func() {
		_, err := io.WriteString(c, long)
		written <- err
	}()
	for !c.writer.waits.Load() {
		time.Sleep(time.Millisecond)
	}
	go func() {
		p.sends("-BUSY a script runs\r\n")
		p.reads(request1 + long[:minRingBytes-len(request1)])
		p.sends("+PONG\r\n")
	}()
	reads(t, c, "+PONG\r\n")
	if err := <-written; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestARefusalThatIsHeardAtTheCloseTouchesNoMemory(t *testing.T) {
	c, _ := newRefused(t)
	c.Close()
	c.backs.Store(true) // by a Read that has heard it before
	if err := c.settle(c.reader); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

func TestARefusalWhoseServerReadsNothingForAWhileLosesNothing(t *testing.T) {
	c, p := newPair(t, patient)
	go func() {
		p.offers(p.region(1 << 20)) // more than the socket takes
		p.reads(startOfTests)
	}()
	first := strings.Repeat(request1, 1<<20/len(request1))
	writes(t, c, first)
	p.sends("-BUSY a script runs\r\n")
	_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if n, err := c.Write([]byte(request1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(n, err)
	}
	_ = c.SetDeadline(time.Time{})
	go func() {
		p.reads(first)
		p.sends("+PONG\r\n")
		p.reads(request1)
		p.sends("+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, "+PONG\r\n+PONG\r\n")
}

func TestOfARefusalNoDescriptorIsLeft(t *testing.T) {
	t.Run("a mailbox", func(t *testing.T) {
		redistest.Watchdog(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			server, err := listener.Accept()
			if err != nil {
				return
			}
			defer server.Close()
			_, _ = bufio.NewReader(server).ReadString('\n')
			_, _ = io.WriteString(server, "-ERR unknown command 'SHM.OPEN'\r\n")
			_, _ = io.Copy(io.Discard, server)
		}()
		socket, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(socket, patient)
		defer c.Close()
		writes(t, c, request1)
		if c.mailbox != nil || !errors.Is(c.NotMoved(), ErrNoModule) {
			t.Fatal(c.NotMoved())
		}
	})
	t.Run("an offer that comes too late", func(t *testing.T) {
		c, p := newPair(t, settings{patience: time.Millisecond})
		subscribe := "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n"
		writes(t, c, subscribe)
		p.offers(p.region(minRingBytes))
		p.reads(subscribe)
		p.sends("+OK\r\n")
		reads(t, c, "+OK\r\n")
		if c.descriptor != -1 || !errors.Is(c.NotMoved(), ErrCannotFollow) {
			t.Fatal(c.descriptor, c.NotMoved())
		}
	})
}

func TestANewDeadlineDoesNotLengthenTheWaitForAnOffer(t *testing.T) {
	c, p := newPair(t, settings{patience: 200 * time.Millisecond})
	written := make(chan error)
	go func() {
		_, err := io.WriteString(c, request1)
		written <- err
	}()
	p.reads("SHM.OPEN 2\r\n")
	for !c.writer.waits.Load() {
		time.Sleep(time.Millisecond)
	}
	_ = c.SetDeadline(time.Now().Add(time.Hour))
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	p.reads(request1)
}

func TestADeadlineThatPassesBeforeTheHandshakesFirstByteEndsNothing(t *testing.T) {
	c, p := newPair(t, patient)
	pass := func() { _ = c.socket.SetWriteDeadline(time.Unix(1, 0)) }
	isLate := func() {
		t.Helper()
		if n, err := c.Write([]byte(request1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		_ = c.SetWriteDeadline(time.Time{})
	}
	pass()
	isLate() // before SHM.OPEN
	file := p.region(minRingBytes)
	offered := make(chan struct{})
	go func() {
		defer close(offered)
		p.offers(file)
	}()
	c.hear = func(w *waiter, target []byte) (int, error) {
		defer pass()
		return c.hearSocket(w, target)
	}
	isLate() // before SHM.START
	<-offered
	c.hear = c.hearSocket
	go func() {
		p.enters()
		p.says("+PONG\r\n")
	}()
	writes(t, c, request1)
	reads(t, c, "+PONG\r\n")
}

func TestWhoeverWaitsIsToldWhyTheOtherSideEndedIt(t *testing.T) {
	c, p := newMoved(t, minRingBytes)
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	for !c.reader.waits.Load() {
		time.Sleep(time.Millisecond)
	}
	p.in.head.store(1 << 50)
	if _, err := c.Write(make([]byte, 2*minRingBytes)); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
}

func TestTheServersLastWordsAreTheError(t *testing.T) {
	c, p := newPair(t, patient)
	p.sends("-ERR max number of clients reached\r\n")
	_ = p.CloseWrite()
	if _, err := c.Write([]byte(request1)); err == nil || !strings.Contains(err.Error(), "max number of clients") {
		t.Fatal(err)
	}
}

// The server ends its side as soon as it is told, and empties the memory.
func TestWhoeverReadsWhileItIsClosedIsToldThat(t *testing.T) {
	c, p := newMoved(t, minRingBytes)
	p.says("+OK\r\n")
	c.isClosed.Store(true)
	if n, err := c.readRing(make([]byte, 10)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Fatal(n, err)
	}
	if err := c.opError("read", io.EOF); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	c.isClosed.Store(false)
}
