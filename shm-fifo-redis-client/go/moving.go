package shmfifo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// readSocket reads what is the program's on the socket. It returns nothing once the server
// has entered: the rest is in the ring.
func (c *Conn) readSocket(p []byte) (int, error) {
	for {
		// Before the look at what is pending: what came ahead of the doorbell is there then.
		hasEntered := c.entered.Load()
		if n := c.takePending(p); n > 0 {
			return n, nil
		}
		if hasEntered {
			c.enter()
			return 0, nil
		}
		if err := c.settle(c.reader); err != nil {
			return 0, err
		}
		n, err := c.listen(c.reader, p, time.Time{})
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// takePending takes what the writer heard.
func (c *Conn) takePending(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n
}

// enter takes the ring into use, after all that was on the socket before.
func (c *Conn) enter() {
	c.mu.Lock()
	out, in := c.region.attacher()
	c.mu.Unlock()
	c.in, c.spinIn.place = in, ofReader(out, in)
	c.in.awake()
}

// writeSocket sends on the socket.
func (c *Conn) writeSocket(p []byte) (int, error) {
	c.mu.Lock()
	c.move.sent(p)
	c.mu.Unlock()
	if err := c.decided(); err != nil {
		return 0, err
	}
	return c.socket.Write(p)
}

// tryMove takes the steps towards shared memory that can be taken before p is sent.
func (c *Conn) tryMove(p []byte) error {
	for {
		c.mu.Lock()
		next := c.move.before(p, time.Now())
		c.mu.Unlock()
		switch next {
		case start:
			return c.start()
		case send:
			return c.decided()
		}
		if err := c.ask(); err != nil {
			return err
		}
	}
}

// ask sends SHM.OPEN and waits a little for the answer. Without one p goes ahead, and whoever
// reads takes the answer out of what comes.
func (c *Conn) ask() error {
	command, err := c.openCommand()
	if err != nil {
		c.mu.Lock()
		c.move.refuse(fmt.Errorf("%w: %v", ErrNotAttached, err))
		c.mu.Unlock()
		return nil
	}
	if n, err := io.WriteString(c.socket, command); err != nil {
		return c.notSent(n, err, onSocket)
	}
	var limit time.Time // none where nothing may go by the socket
	if !c.settings.strict {
		limit = time.Now().Add(c.settings.patience)
	}
	for c.isOpening() && (limit.IsZero() || time.Now().Before(limit)) {
		if err := c.listenForSpace(limit); err != nil {
			return err
		}
	}
	return nil
}

// openCommand is SHM.OPEN, over TCP with the name of a new mailbox.
func (c *Conn) openCommand() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropOffer()
	if c.isUnix {
		return openCommand(""), nil
	}
	var err error
	if c.mailbox, err = newMailbox(); err != nil {
		return "", err
	}
	return openCommand(c.mailbox.name()), nil
}

func (c *Conn) isOpening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.move.stage == opening
}

// start sends SHM.START. Requests go into the ring from then on.
func (c *Conn) start() error {
	c.mu.Lock()
	region := c.region
	c.mu.Unlock()
	if n, err := io.WriteString(c.socket, startCommand(region.token)); err != nil {
		return c.notSent(n, err, offered)
	}
	out, in := region.attacher()
	c.out, c.answer, c.spinOut.place = out, in.tail, ofWriter(out, in)
	c.started.Store(true)
	return nil
}

// notSent is told that a command of the handshake was not sent, in the stage after this one. Where
// its deadline passed before the first byte, a later request does.
func (c *Conn) notSent(n int, err error, before stage) error {
	if n > 0 || !isTimeout(err) {
		return c.fail(err)
	}
	c.mu.Lock()
	c.move.stage = before
	c.mu.Unlock()
	return err
}

// settle takes the ring back, if the server has refused to enter. Whoever has the writer's
// lock does, and looks again when it was given back.
func (c *Conn) settle(w *waiter) error {
	for c.backs.Load() && c.writing.TryLock() {
		err := c.takeBack(w)
		c.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// takeBack sends on the socket what is in the ring, which the server has not read. It waits
// until the deadline of w; what is left then somebody else has to send.
func (c *Conn) takeBack(w *waiter) error {
	if err := c.usable(w); err != nil || !c.backs.Load() {
		return err
	}
	if c.out != nil {
		if err := c.emptyRing(); err != nil {
			return err
		}
	}
	_ = c.writeUntil(w)
	n, err := c.socket.Write(c.held)
	_ = c.writeUntil(c.writer)
	c.held = c.held[n:]
	switch {
	case err == nil:
		c.held = nil
		c.backs.Store(false)
	case !isTimeout(err):
		err = c.fail(err)
	}
	return err
}

// emptyRing takes out what is to go to the socket, and ends the use of the memory.
func (c *Conn) emptyRing() error {
	if c.answer.load() != 0 || c.out.position > c.out.ring.bytes {
		return c.fail(violation("a refusal after it had entered"))
	}
	c.held = make([]byte, c.out.position)
	c.out.ring.copyOut(c.held, 0)
	c.out = nil
	c.started.Store(false)
	c.mu.Lock()
	c.move.tookBack()
	c.move.sent(c.held)
	c.dropOffer()
	c.mu.Unlock()
	return c.decided()
}

// dropOffer forgets the memory, and whatever it would have come by.
func (c *Conn) dropOffer() {
	if c.region != nil {
		c.region.unmap()
		c.region = nil
	}
	if c.descriptor >= 0 {
		closeDescriptor(c.descriptor)
		c.descriptor = -1
	}
	if c.mailbox != nil {
		c.mailbox.close()
		c.mailbox = nil
	}
}

// hearSocket waits for what comes on the socket. What is the program's it leaves in target,
// and says how much that is; what the writer hears it keeps for the reader. Whoever calls it has
// the turn to listen.
func (c *Conn) hearSocket(w *waiter, target []byte) (int, error) {
	n, err := c.receive(target)
	c.mu.Lock()
	program, broken := c.move.received(target[:n])
	if w == c.writer {
		// While it has the turn: whatever the reader hears comes behind it.
		c.pending = append(c.pending, target[:program]...)
		program = 0
	}
	if c.move.stage == offered && c.region == nil {
		c.acceptOffer()
	}
	stage := c.move.stage
	switch stage {
	case moved:
		c.entered.Store(true)
	case refused:
		c.backs.Store(true)
	case onSocket, staying:
		c.dropOffer() // it was refused
	}
	c.mu.Unlock()

	if broken != nil {
		err = c.fail(broken)
	}
	if failed := c.decided(); failed != nil {
		err = failed
	}
	// After an end there may be more in the ring.
	if err != nil && stage == moved && !isTimeout(err) && !c.hasFailed.Load() {
		if errors.Is(err, syscall.ECONNRESET) {
			err = io.EOF // it means no more than doorbells that nobody has read
		}
		c.mu.Lock()
		c.endError = err
		c.mu.Unlock()
		c.ended.Store(true)
		err = nil
	}
	return program, err
}

// receive waits for bytes on the socket, and keeps a descriptor that comes with them.
func (c *Conn) receive(target []byte) (int, error) {
	socket, _ := c.socket.(*net.UnixConn)
	if !c.isUnix || !supported || c.entered.Load() {
		return c.socket.Read(target)
	}
	if c.control == nil {
		c.control = make([]byte, controlBytes())
	}
	n, controlBytes, _, _, err := socket.ReadMsgUnix(target, c.control)
	if err != nil {
		n, controlBytes = 0, 0
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // as Read has it
	}
	if controlBytes > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, fd := range descriptorsIn(c.control[:controlBytes]) {
			if c.descriptor >= 0 {
				closeDescriptor(c.descriptor)
			}
			c.descriptor = fd
		}
	}
	return n, err
}

// acceptOffer attaches to the memory that the server has offered.
func (c *Conn) acceptOffer() {
	if c.mailbox != nil {
		c.descriptor = c.mailbox.takeDescriptor()
	}
	if c.descriptor < 0 {
		c.move.refuse(ErrNoDescriptor)
		return
	}
	region, err := attach(c.descriptor)
	// Anybody in this network namespace may have sent a descriptor to the mailbox.
	if c.mailbox != nil && err == nil && hex.EncodeToString(region.token[:]) != c.move.proof {
		region.unmap()
		err = errors.New("it is not the server's")
	}
	c.dropOffer()
	if err != nil {
		c.move.refuse(fmt.Errorf("%w: %v", ErrNotAttached, err))
		return
	}
	c.region = region
}

// decided tells whoever wants to know, once, that the connection has moved or why it has
// not. That is an error where it must not stay on its socket.
func (c *Conn) decided() error {
	c.mu.Lock()
	isNews, reason := c.move.isNews, c.move.reason
	c.move.isNews = false
	c.mu.Unlock()
	if !isNews {
		return nil
	}
	if c.settings.notify != nil {
		go c.settings.notify(c)
	}
	if c.settings.strict && reason != nil && !errors.Is(reason, ErrNotLoggedIn) {
		return c.fail(reason)
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
