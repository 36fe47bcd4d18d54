package shmfifo

import (
	"context"
	"net"
	"time"
)

// Dialer makes connections to Redis servers that move to shared memory where that is
// possible. The zero value is ready for use, by any number of goroutines.
type Dialer struct {
	// Dialer makes the sockets: with its timeouts, local address and so on.
	Dialer net.Dialer

	// Strict makes it an error of Read and Write, and the end of the connection, that
	// the server does not let it move: one of those that [Conn.NotMoved] returns. Otherwise
	// the connection goes on over its socket.
	Strict bool

	// Spin is for how long a Read at most looks for an answer before it sleeps in Go's
	// network poller, and a Write for space, where that has been paying. 0 is 200
	// microseconds, less than 0 is not at all.
	Spin time.Duration

	// Notify, if it is set, is told of each connection that it has moved, or has been
	// refused: [Conn.Transport] and [Conn.NotMoved] say which. One that asks
	// again later is told of again. It is called on a goroutine of its own.
	Notify func(*Conn)
}

// settings are what a connection has of its Dialer.
type settings struct {
	strict   bool
	patience time.Duration // how long a request waits for the answer to SHM.OPEN
	spin     time.Duration
	notify   func(*Conn)
}

// Longer than this a server takes only if it is busy: the request goes ahead on the socket.
const openPatience = 10 * time.Millisecond

// DialContext connects to a server: network is "unix" with the path of a socket as its
// address, or "tcp" with host and port. The context ends the attempt, and means nothing
// to the connection afterwards. It has the type of go-redis' Options.Dialer and redigo's
// DialContextFunc.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newConn(socket, settings{d.Strict, openPatience, d.Spin, d.Notify}), nil
}

// Dial is DialContext without a context. It has the type of redigo's DialNetDial.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}
