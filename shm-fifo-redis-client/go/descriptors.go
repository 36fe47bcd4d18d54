//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"unsafe"
)

// maxDescriptors is how many a message may have here. The protocol has one; surplus ones
// are closed.
const maxDescriptors = 8

// maxLetters is how many datagrams a mailbox is searched for. Anybody in this network
// namespace may send some. What they carry has another token than the server's, and is not used.
const maxLetters = 16

// controlBytes is the room for the control data of one message.
func controlBytes() int {
	return syscall.CmsgSpace(4 * maxDescriptors)
}

// descriptorsIn is the file descriptors in a message's control data. They are the caller's.
func descriptorsIn(control []byte) []int {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var all []int
	for i := range messages {
		if some, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, some...)
		}
	}
	return all
}

func closeDescriptor(fd int) {
	_ = syscall.Close(fd)
}

// mailbox is the datagram socket on which a descriptor comes beside a TCP connection.
type mailbox struct {
	socket *net.UnixConn
}

// newMailbox makes one whose name the kernel chooses.
func newMailbox() (*mailbox, error) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	m := &mailbox{socket}
	if len(m.name()) != 5 {
		m.close()
		return nil, errors.New("the kernel chose a socket name of unknown form")
	}
	return m, nil
}

// name is the digits that the kernel chose. Go writes the zero byte before them as @.
func (m *mailbox) name() string {
	return strings.TrimPrefix(m.socket.LocalAddr().String(), "@")
}

// takeDescriptor is the descriptor that has come, or -1. It does not wait: one is sent
// before the answer on the connection.
func (m *mailbox) takeDescriptor() int {
	raw, err := m.socket.SyscallConn()
	if err != nil {
		return -1
	}
	found := -1
	_ = raw.Read(func(fd uintptr) bool {
		for i := 0; i < maxLetters && found < 0; i++ {
			letter := make([]byte, 2) // one more than it has, to tell it from a longer one
			control := make([]byte, controlBytes())
			const flags = syscall.MSG_DONTWAIT | syscall.MSG_CMSG_CLOEXEC
			count, controlCount, _, _, err := syscall.Recvmsg(int(fd), letter, control, flags)
			if err != nil {
				break
			}
			found = firstOf(descriptorsIn(control[:controlCount]), count == 1 && letter[0] == 0)
		}
		return true
	})
	return found
}

// firstOf keeps the first descriptor, if it is wanted, and closes the others. -1 is none.
func firstOf(descriptors []int, wanted bool) int {
	kept := -1
	for _, fd := range descriptors {
		if wanted && kept < 0 {
			kept = fd
		} else {
			closeDescriptor(fd)
		}
	}
	return kept
}

func (m *mailbox) close() {
	_ = m.socket.Close()
}

// hasEnded says whether the peer has ended this socket, which may have bytes to read all the same.
func hasEnded(fd uintptr) bool {
	const (
		pollErr   = 0x8
		pollHup   = 0x10
		pollRDHup = 0x2000
	)
	asked := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: pollRDHup}
	var atOnce syscall.Timespec
	count, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&asked)), 1,
		uintptr(unsafe.Pointer(&atOnce)), 0, 0, 0)
	return count == 1 && asked.revents&(pollErr|pollHup|pollRDHup) != 0
}

var doorbells = [1]byte{doorbell}

// ringOnce sends a doorbell, if the socket takes one now. Go has SIGPIPE ignored for sockets.
func ringOnce(fd uintptr) {
	_, _ = syscall.Write(int(fd), doorbells[:])
}
