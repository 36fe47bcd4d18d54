package shmfifo

import "fmt"

// errCorrupt is a position of the peer that cannot be. It ends the connection.
var errCorrupt = fmt.Errorf("%w: a position that cannot be in shared memory", ErrProtocol)

// producer is the writing end of one ring. One goroutine at a time uses it.
type producer struct {
	ring           ring
	tail           word64
	head           word64
	closed         word32
	consumerClosed word32
	parked         word32
	consumerParked word32
	cpu            word32
	consumerCPU    word32

	position uint64 // what tail has; it is never read back
	seenHead uint64
}

func newProducer(header memory, ring ring) *producer {
	return &producer{
		ring:           ring,
		tail:           header.word64(tailAt),
		head:           header.word64(headAt),
		closed:         header.word32(producerClosedAt),
		consumerClosed: header.word32(consumerClosedAt),
		parked:         header.word32(producerParkedAt),
		consumerParked: header.word32(consumerParkedAt),
		cpu:            header.word32(producerCPUAt),
		consumerCPU:    header.word32(consumerCPUAt),
	}
}

// free looks how many bytes there is space for.
func (p *producer) free() (uint64, error) {
	// ORDERING E2 (space free): pairs with the consumer's Release store of head.
	head := p.head.load()
	used := p.position - head
	if used > p.ring.bytes || used > p.position-p.seenHead {
		return 0, errCorrupt
	}
	p.seenHead = head
	return p.ring.bytes - used, nil
}

// write copies what there is space for, publishes it, and says how much that is.
func (p *producer) write(source []byte) (int, error) {
	// The head seen last will mostly do: the word itself is in a cache line of the peer's.
	free := p.ring.bytes - (p.position - p.seenHead)
	if free < uint64(len(source)) {
		var err error
		if free, err = p.free(); err != nil || free == 0 {
			return 0, err
		}
	}
	if uint64(len(source)) > free {
		source = source[:free]
	}
	p.ring.copyIn(p.position, source)
	p.position += uint64(len(source))
	// ORDERING E1 (data ready): publishes the bytes; pairs with the consumer's Acquire load.
	// E3 (park), E6 (enter): comes before the loads of takeSleeper and of the answer.
	p.tail.store(p.position)
	return len(source), nil
}

// takeSleeper says whether the consumer sleeps for what was just written, and must be rung.
func (p *producer) takeSleeper() bool {
	return takeSleeper(p.consumerParked)
}

// announce says that this side is about to sleep for space, and whether it still may.
func (p *producer) announce() (maySleep bool, err error) {
	// ORDERING E3 (park): before the look at the position, as the consumer's store of that
	// is before its look at this word.
	p.parked.store(1)
	free, err := p.free()
	return err == nil && free < p.ring.bytes/4 && p.consumerClosed.load() == 0, err
}

// hasSpace looks for the change that a spin waits for.
func (p *producer) hasSpace() bool {
	return p.head.load() != p.seenHead
}

// awake takes back what announce said.
func (p *producer) awake() { p.parked.store(0) }

// takeSleeper takes a sleep's announcement back in the peer's name: whoever does has to ring.
//
// ORDERING E3 (park): the store of a position came before, the peer's announcement comes
// before its look at that position. One of the two sees the other.
func takeSleeper(parked word32) bool {
	if parked.load() == 0 {
		return false
	}
	parked.store(0)
	return true
}
