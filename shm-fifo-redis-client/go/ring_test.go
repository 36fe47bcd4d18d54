//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"bytes"
	"errors"
	"hash/fnv"
	"math/rand"
	"runtime"
	"testing"

	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// startAt moves the ends of one ring, which is empty, to a position: what a connection is at
// after so many bytes.
func startAt(p *producer, c *consumer, position uint64) {
	p.position, p.seenHead, c.position, c.seenTail, c.lookedAt = position, position, position, position, position
	p.tail.store(position)
	c.head.store(position)
}

// play does to a ring what the script says, a byte a step, and checks it against a queue of
// bytes. Each step may be one of a hostile peer, which overwrites a word; from then on there
// may be errors, and any bytes, but nothing worse.
func play(t testing.TB, p *producer, c *consumer, script []byte) {
	queue := []byte{}
	var next byte
	honest := true
	for len(script) >= 3 {
		op, size := script[0], int(script[1])<<8|int(script[2])
		script = script[3:]
		size %= int(p.ring.bytes) + 100
		switch op % 4 {
		case 0, 1:
			source := make([]byte, size)
			for i := range source {
				next++
				source[i] = next
			}
			n, err := p.write(source)
			if honest {
				free := int(p.ring.bytes) - len(queue)
				if err != nil || n != least(size, free) {
					t.Fatalf("wrote %d of %d with %d free: %v", n, size, free, err)
				}
			} else if n < 0 || n > size {
				t.Fatalf("wrote %d of %d", n, size)
			}
			queue = append(queue, source[:n]...)
			next -= byte(size - n)
			p.takeSleeper()
		case 2:
			target := make([]byte, size)
			n, err := c.read(target)
			if honest && (err != nil || n != least(size, len(queue)) || !bytes.Equal(target[:n], queue[:n])) {
				t.Fatalf("read %d of %d, %d were there: %v", n, size, len(queue), err)
			}
			if n < 0 || n > size {
				t.Fatalf("read %d of %d", n, size)
			}
			queue = queue[least(n, len(queue)):]
			c.takeSleeper()
		case 3:
			if op < 128 {
				continue
			}
			honest = false
			value := uint64(size) << (op % 64)
			for i, word := range []word64{p.tail, p.head, p.tail, p.head} {
				if int(op>>2)%4 == i {
					word.store(word.load() + value - uint64(i/2)*2*value)
				}
			}
		}
	}
}

func TestARingIsAQueueOfBytesWhereverItStarts(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	for _, position := range []uint64{0, 1, 4095, 1 << 32, 1<<64 - 1, 1<<64 - 5000} {
		attacher, creator := newRegion(t, minRingBytes)
		p, _ := attacher.attacher()
		_, c := creator.creator()
		startAt(p, c, position)
		script := make([]byte, 30_000)
		random.Read(script)
		for i := 0; i < len(script); i += 3 {
			script[i] &= 0x7f // the peer is honest
		}
		play(t, p, c, script)
	}
}

func FuzzRing(f *testing.F) {
	f.Add(uint64(0), []byte{0, 16, 0, 2, 16, 0, 255, 1, 0, 2, 0, 1, 0, 0, 1})
	f.Add(uint64(1<<64-10), []byte{0, 0, 20, 2, 0, 20, 131, 255, 255, 0, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, position uint64, script []byte) {
		script = script[:least(len(script), 3000)]
		attacher, creator := newRegion(t, minRingBytes)
		p, _ := attacher.attacher()
		_, c := creator.creator()
		startAt(p, c, position)
		play(t, p, c, script)
	})
}

func TestPositionsThatCannotBeAreErrors(t *testing.T) {
	attacher, creator := newRegion(t, minRingBytes)
	_, c := attacher.attacher()
	p, _ := creator.creator()
	for _, tail := range []uint64{minRingBytes + 1, 1 << 63, 1<<64 - 1} {
		p.tail.store(tail)
		if _, err := c.available(); !errors.Is(err, ErrProtocol) {
			t.Errorf("tail %d: %v", tail, err)
		}
	}
	p.tail.store(100)
	if count, err := c.available(); count != 100 || err != nil {
		t.Fatal(count, err)
	}
	p.tail.store(99)
	if _, err := c.available(); !errors.Is(err, ErrProtocol) {
		t.Errorf("tail went back: %v", err)
	}

	c.head.store(1)
	if _, err := p.free(); !errors.Is(err, ErrProtocol) {
		t.Errorf("head before tail: %v", err)
	}
}

// Two goroutines on the two ends, which sleep by the parked words alone.
func TestStreamsArriveWhole(t *testing.T) {
	redistest.Watchdog(t)
	attacher, creator := newRegion(t, minRingBytes)
	p, _ := attacher.attacher()
	_, c := creator.creator()
	total := 64 << 20
	if testing.Short() {
		total = 8 << 20
	}
	wakeReader, wakeWriter := make(chan struct{}, 1), make(chan struct{}, 1)
	ring := func(bell chan struct{}) {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
	written, whole := fnv.New64a(), make(chan struct{})
	go func() {
		defer close(whole)
		random := rand.New(rand.NewSource(2))
		block := make([]byte, 6000)
		for left := total; left > 0; {
			part := block[:least(left, 1+random.Intn(len(block)))]
			random.Read(part)
			_, _ = written.Write(part)
			left -= len(part)
			for len(part) > 0 {
				n, err := p.write(part)
				if err != nil {
					panic(err)
				}
				part = part[n:]
				if n > 0 && p.takeSleeper() {
					ring(wakeReader)
				}
				if n == 0 {
					if maySleep, _ := p.announce(); maySleep {
						<-wakeWriter
					}
					p.awake()
				}
			}
			if random.Intn(100) == 0 {
				runtime.Gosched()
			}
		}
		p.closed.store(1)
		ring(wakeReader)
	}()

	read := fnv.New64a()
	block := make([]byte, 5000)
	for got := 0; got < total; {
		n, err := c.read(block)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = read.Write(block[:n])
		got += n
		if n > 0 && c.takeSleeper() {
			ring(wakeWriter)
		}
		if n == 0 {
			if c.takeSleeperNow() {
				ring(wakeWriter)
			}
			if c.announce() {
				<-wakeReader
			}
			c.awake()
		}
	}
	<-whole
	if written.Sum64() != read.Sum64() {
		t.Fatal("other bytes arrived")
	}
}

// Two sides that answer each other a byte, and sleep for it at once: publishing and falling
// asleep meet at every moment. A wake-up that is lost hangs.
func TestNoWakeUpIsLostHoweverTheTwoSidesMeet(t *testing.T) {
	redistest.Watchdog(t)
	attacher, creator := newRegion(t, minRingBytes)
	bells := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	side := func(p *producer, c *consumer, own, other chan struct{}, writes, rounds int) {
		b := make([]byte, 1)
		for i := 0; i < rounds; i++ {
			if i%2 == writes {
				for k := i / 2 % 97; k > 0; k-- {
					pause() // another moment each time
				}
				if n, err := p.write(b); n != 1 || err != nil {
					panic(err)
				}
				if p.takeSleeper() {
					other <- struct{}{}
				}
				continue
			}
			for {
				if n, err := c.read(b); err != nil {
					panic(err)
				} else if n == 1 {
					break
				}
				if c.announce() {
					<-own
				}
				c.awake()
				select { // one that came although this side was awake again
				case <-own:
				default:
				}
			}
		}
	}
	rounds := 1_000_000
	if testing.Short() {
		rounds = 200_000
	}
	p, c := attacher.attacher()
	q, d := creator.creator()
	c.awake()
	d.awake()
	done := make(chan struct{})
	go func() {
		defer close(done)
		side(q, d, bells[1], bells[0], 1, rounds)
	}()
	side(p, c, bells[0], bells[1], 0, rounds)
	<-done
}
