//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	supported = true

	fcntlGetSeals = 1034 // F_GET_SEALS
	sealShrink    = 2    // F_SEAL_SHRINK
	madvDontFork  = 10   // MADV_DONTFORK
	madvDontDump  = 16   // MADV_DONTDUMP
)

// region is a mapping of the memory that the server offers.
type region struct {
	mapped    []byte // for munmap alone; see memory.go
	ringBytes uint64
	token     [tokenBytes]byte
}

// attach checks the memory behind a descriptor, as docs/layout.md says, and maps it.
func attach(fd int) (*region, error) {
	seals, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), fcntlGetSeals, 0)
	if errno != 0 || seals&sealShrink == 0 {
		return nil, errors.New("it is not sealed against shrinking")
	}
	var file syscall.Stat_t
	if err := syscall.Fstat(fd, &file); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	ringBytes := (uint64(file.Size) - ringsAt) / 2
	if file.Size < ringsAt || !isRingSize(ringBytes) || regionBytes(ringBytes) != uint64(file.Size) {
		return nil, fmt.Errorf("no region has %d bytes", file.Size)
	}
	mapped, err := syscall.Mmap(fd, 0, int(file.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	r := &region{mapped: mapped, ringBytes: ringBytes}
	// A connection that nobody closes is one that nobody has.
	runtime.SetFinalizer(r, (*region).unmap)
	if err := r.check(); err != nil {
		r.unmap()
		return nil, err
	}
	for _, advice := range []int{madvDontFork, madvDontDump} {
		// Go's children run another program at once, and have no mapping then: an emulator that
		// does not know the advice does no harm.
		_ = syscall.Madvise(mapped, advice)
	}
	return r, nil
}

// check looks at what the creator wrote once, and takes the token.
func (r *region) check() error {
	m := r.memory()
	if m.word64(magicAt).load() != magic {
		return errors.New("it does not begin as a region does")
	}
	if version := m.word64(layoutVersionAt).load(); version != layoutVersion {
		return fmt.Errorf("its layout version is %d instead of %d", version, layoutVersion)
	}
	if m.word64(ringBytesAt).load() != r.ringBytes {
		return errors.New("its rings do not make the file's size")
	}
	for i := uintptr(0); i < tokenBytes; i += 8 {
		word := m.word64(tokenAt + i).load()
		for k := uintptr(0); k < 8; k++ {
			r.token[i+k] = byte(word >> (8 * k))
		}
	}
	return nil
}

func (r *region) memory() memory {
	return memory{unsafe.Pointer(&r.mapped[0])}
}

// attacher is this side's two ends: what it writes, and what it reads.
func (r *region) attacher() (*producer, *consumer) {
	m := r.memory()
	out := newProducer(memory{unsafe.Add(m.base, toCreatorHeaderAt)}, m.ring(ringsAt, r.ringBytes))
	in := newConsumer(memory{unsafe.Add(m.base, toAttacherHeaderAt)}, m.ring(ringsAt+uintptr(r.ringBytes), r.ringBytes))
	return out, in
}

// unmap ends the mapping, if that has not been done. Nobody may be in a ring, or come there.
func (r *region) unmap() {
	if r.mapped != nil {
		// It fails for what is not mapped, and nothing else.
		_ = syscall.Munmap(r.mapped)
		r.mapped = nil
		runtime.SetFinalizer(r, nil)
	}
}
