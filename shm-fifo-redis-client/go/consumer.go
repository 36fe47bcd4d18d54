package shmfifo

// consumer is the reading end of one ring. One goroutine at a time uses it.
type consumer struct {
	ring           ring
	tail           word64
	head           word64
	closed         word32
	producerClosed word32
	parked         word32
	producerParked word32
	cpu            word32
	producerCPU    word32

	position uint64 // what head has; it is never read back
	seenTail uint64
	lookedAt uint64 // the position at the last look for a producer that sleeps
}

func newConsumer(header memory, ring ring) *consumer {
	return &consumer{
		ring:           ring,
		tail:           header.word64(tailAt),
		head:           header.word64(headAt),
		closed:         header.word32(consumerClosedAt),
		producerClosed: header.word32(producerClosedAt),
		parked:         header.word32(consumerParkedAt),
		producerParked: header.word32(producerParkedAt),
		cpu:            header.word32(consumerCPUAt),
		producerCPU:    header.word32(producerCPUAt),
	}
}

// available looks how many bytes there are to read.
func (c *consumer) available() (uint64, error) {
	// ORDERING E1 (data ready): pairs with the producer's Release store of tail.
	tail := c.tail.load()
	count := tail - c.position
	if count > c.ring.bytes || count < c.seenTail-c.position {
		return 0, errCorrupt
	}
	c.seenTail = tail
	return count, nil
}

// read copies what there is and fits, gives the space back, and says how much that is.
func (c *consumer) read(target []byte) (int, error) {
	count := c.seenTail - c.position
	if count < uint64(len(target)) {
		var err error
		if count, err = c.available(); err != nil || count == 0 {
			return 0, err
		}
	}
	if count < uint64(len(target)) {
		target = target[:count]
	}
	c.ring.copyOut(target, c.position)
	c.position += uint64(len(target))
	// ORDERING E2 (space free): the copy is done; pairs with the producer's Acquire load.
	// E3 (park): comes before the load of takeSleeper.
	c.head.store(c.position)
	return len(target), nil
}

// takeSleeper says whether the producer sleeps for space and must be rung. It looks once for
// each half ring that was read.
func (c *consumer) takeSleeper() bool {
	return c.position-c.lookedAt >= c.ring.bytes/2 && c.takeSleeperNow()
}

// takeSleeperNow looks whatever was read.
func (c *consumer) takeSleeperNow() bool {
	c.lookedAt = c.position
	return takeSleeper(c.producerParked)
}

// announce says that this side is about to sleep for data, and whether it still may.
func (c *consumer) announce() bool {
	// ORDERING E3 (park): before the look at the position, as the producer's store of that
	// is before its look at this word.
	c.parked.store(1)
	return !c.hasData() && c.producerClosed.load() == 0
}

// hasData looks for the change that a spin waits for.
func (c *consumer) hasData() bool {
	return c.tail.load() != c.position
}

// awake takes back what announce said.
func (c *consumer) awake() { c.parked.store(0) }
