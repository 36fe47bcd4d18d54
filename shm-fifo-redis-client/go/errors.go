package shmfifo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Why a connection is on its socket: what [Conn.NotMoved] returns is one of these, by
// errors.Is, mostly with the server's words.
var (
	// ErrNotAsked: the server has not been asked yet. It is asked at the first request
	// after the login (HELLO, AUTH) that is sent while no reply is outstanding.
	ErrNotAsked = errors.New("shmfifo: the server has not been asked for shared memory yet")
	// ErrNoModule: the server does not know SHM.OPEN.
	ErrNoModule = errors.New("shmfifo: the server does not have the shm module; load it with MODULE LOAD or a loadmodule line in redis.conf")
	// ErrOtherHost: the server runs on another host. It was not asked.
	ErrOtherHost = errors.New("shmfifo: the server runs on another host; shared memory needs a unix socket, a loopback address or an address of this host")
	// ErrNoPermission: this user may not use SHM.OPEN or SHM.START.
	ErrNoPermission = errors.New("shmfifo: NOPERM for SHM.OPEN or SHM.START; ACL SETUSER ... +shm.open +shm.start allows them")
	// ErrNotLoggedIn: nobody may, who has not logged in.
	ErrNotLoggedIn = errors.New("shmfifo: NOAUTH: the program has not logged in")
	// ErrRefused: the server said no, for a reason of its own. It is asked again later.
	ErrRefused = errors.New("shmfifo: the server refused shared memory")
	// ErrNoDescriptor: the server said yes, and no file descriptor came.
	ErrNoDescriptor = errors.New("shmfifo: the server's file descriptor did not arrive: a proxy or another network is between")
	// ErrNotAttached: what came cannot be used as shared memory here, or not safely.
	ErrNotAttached = errors.New("shmfifo: the shared memory cannot be used here")
	// ErrCannotFollow: the replies cannot be counted, so no moment is known at which none is
	// outstanding: the connection subscribed or was monitoring before it could move, its
	// replies are switched off, or its bytes are not Redis' protocol (TLS, for example).
	ErrCannotFollow = errors.New("shmfifo: it is not known when no reply is outstanding")
	// ErrUnsupported: shared memory is used on Linux on amd64 and arm64.
	ErrUnsupported = errors.New("shmfifo: shared memory needs Linux on amd64 or arm64")
)

// ErrProtocol is what a Read or Write returns, by errors.Is, whose server does not keep to the
// protocol of shared memory. The connection has ended.
var ErrProtocol = errors.New("shmfifo: the server broke the protocol of shared memory")

func violation(what string) error {
	return fmt.Errorf("%w: it sent %s", ErrProtocol, what)
}

// refusal is the reason in the server's answer to SHM.OPEN or SHM.START.
func refusal(answer []byte) error {
	begins := func(words string) bool {
		return len(answer) >= len(words) && strings.EqualFold(string(answer[:len(words)]), words)
	}
	switch {
	case begins("-ERR unknown command"):
		return ErrNoModule
	case begins("-NOPERM"):
		return ErrNoPermission
	case begins("-NOAUTH"):
		return ErrNotLoggedIn
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(answer, []byte("-")))
	return fmt.Errorf("%w: %s", ErrRefused, strings.ToValidUTF8(string(text), "\uFFFD"))
}
