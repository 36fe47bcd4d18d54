//go:build !linux || (!amd64 && !arm64)

package shmfifo

// Elsewhere a program compiles, and its connections stay on their sockets.
const supported = false

type region struct{ token [tokenBytes]byte }

func attach(int) (*region, error)                { return nil, ErrUnsupported }
func (*region) attacher() (*producer, *consumer) { return nil, nil }
func (*region) unmap()                           {}
func closeDescriptor(int)                        {}
func descriptorsIn([]byte) []int                 { return nil }
func controlBytes() int                          { return 0 }
func ringOnce(uintptr)                           {}

type mailbox struct{}

func newMailbox() (*mailbox, error)  { return nil, ErrUnsupported }
func (*mailbox) name() string        { return "" }
func (*mailbox) takeDescriptor() int { return -1 }
func (*mailbox) close()              {}

func hasEnded(uintptr) bool { return false }

func currentCPU() uint32 { return 0 }
