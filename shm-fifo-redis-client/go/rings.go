package shmfifo

import (
	"io"
	"net"
	"syscall"
	"time"
)

// readRing reads what has come in shared memory, and waits for it.
func (c *Conn) readRing(p []byte) (int, error) {
	for {
		target := p
		if c.greeted < len(okAnswer) {
			target = c.heardIn[:len(okAnswer)-c.greeted]
		}
		n, err := c.in.read(target)
		switch {
		case c.isClosed.Load():
			return 0, net.ErrClosed // the server may have emptied the memory by now
		case err != nil:
			return 0, c.fail(err)
		}
		if n > 0 && c.in.takeSleeper() {
			c.ring()
		}
		switch {
		case n == 0:
			err = c.awaitData()
		case c.greeted < len(okAnswer):
			err = c.greet(target[:n])
		default:
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// greet takes a part of the answer to SHM.START.
func (c *Conn) greet(part []byte) error {
	if string(part) != okAnswer[c.greeted:c.greeted+len(part)] {
		return c.fail(violation("something other than +OK first in shared memory"))
	}
	c.greeted += len(part)
	return nil
}

// awaitData waits until there may be something to read.
func (c *Conn) awaitData() error {
	// ORDERING E4 (close): before the last look at the position.
	hasEnded := c.ended.Load() || c.in.producerClosed.load() != 0
	switch {
	case c.in.hasData():
		return nil
	case hasEnded:
		return c.end()
	}
	if err := c.usable(c.reader); err != nil || c.spinIn.spin(c.in.hasData) {
		return err
	}
	if c.in.takeSleeperNow() {
		c.ring()
	}
	var err error
	if c.in.announce() {
		_, err = c.listen(c.reader, c.heardIn[:], time.Time{})
		c.spinIn.woken()
	}
	c.in.awake()
	return err
}

// writeRing writes into shared memory, and waits for space. It writes less only if the server
// has refused to enter, and all that it wrote went to the socket.
func (c *Conn) writeRing(p []byte) (n int, err error) {
	for n < len(p) {
		if c.backs.Load() {
			return n, c.takeBack(c.writer)
		}
		count, err := c.out.write(p[n:])
		if err != nil {
			return n, c.fail(err)
		}
		n += count
		if count > 0 {
			c.ringReader()
		} else if err := c.awaitSpace(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// ringReader rings the server, if it sleeps for what was written.
func (c *Conn) ringReader() {
	// ORDERING E6 (enter): the tail was stored before. While the answer is not there, the
	// server has yet to look at this ring, and the socket still carries its commands.
	if (c.entered.Load() || c.answer.load() != 0) && c.out.takeSleeper() {
		c.ring()
	}
}

// awaitSpace waits until there may be space to write.
func (c *Conn) awaitSpace() error {
	if err := c.usable(c.writer); err != nil {
		return err
	}
	if c.ended.Load() || c.out.consumerClosed.load() != 0 {
		return syscall.EPIPE
	}
	if c.spinOut.spin(c.out.hasSpace) {
		return nil
	}
	maySleep, err := c.out.announce()
	if err != nil {
		err = c.fail(err)
	} else if maySleep {
		err = c.listenForSpace(time.Time{})
		c.spinOut.woken()
	}
	c.out.awake()
	return err
}

// listenForSpace listens for the writer.
func (c *Conn) listenForSpace(limit time.Time) error {
	_, err := c.listen(c.writer, c.heardOut[:], limit)
	return err
}

// end is how the connection ended: io.EOF mostly.
func (c *Conn) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endError != nil {
		return c.endError
	}
	return io.EOF
}
