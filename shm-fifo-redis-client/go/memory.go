package shmfifo

import (
	"sync/atomic"
	"unsafe"
)

// This file has all that touches shared memory. The other process writes there whenever it
// likes, and may be hostile. So:
//
//   - The memory is mapped by the kernel and lies outside of Go's heap: the collector neither
//     moves nor scans it, and the race detector, which knows the heap and the program's own
//     data, ignores it.
//   - Words are loaded and stored by sync/atomic alone, each load once; whoever loads one
//     checks it and goes on with the local value.
//   - Payload is copied by the copy builtin, and only the copy is looked at. The copies
//     race with a peer that does not keep to the protocol. Nothing depends on the bytes, which
//     are no pointers and no lengths, so such a race yields other bytes and nothing else. The
//     slices that copy needs are made for that one call: none leaves this file, so nobody can
//     take what it points to for memory of Go's that stays as it is.
//   - Offsets are constants and masked positions: no value of the peer can name memory beyond
//     the ring.
//
// Go's atomics are sequentially consistent, which is more than any edge of
// docs/memory-ordering.md asks for. A store that is followed by a load of another word, as
// in E3 and E6, stays in that order without a fence: on amd64 the store is an XCHG, on arm64
// an STLR before an LDAR.

// memory is a mapped region, from its first byte.
type memory struct {
	base unsafe.Pointer
}

// word64 is one aligned 64-bit word of shared memory.
type word64 struct{ at *uint64 }

// word32 is one aligned 32-bit word of shared memory.
type word32 struct{ at *uint32 }

func (m memory) word64(offset uintptr) word64 {
	return word64{(*uint64)(unsafe.Add(m.base, offset))}
}

func (m memory) word32(offset uintptr) word32 {
	return word32{(*uint32)(unsafe.Add(m.base, offset))}
}

func (w word64) load() uint64       { return atomic.LoadUint64(w.at) }
func (w word64) store(value uint64) { atomic.StoreUint64(w.at, value) }
func (w word32) load() uint32       { return atomic.LoadUint32(w.at) }
func (w word32) store(value uint32) { atomic.StoreUint32(w.at, value) }

// ring is the data bytes of one FIFO. Its size is a private copy that was checked.
type ring struct {
	base  unsafe.Pointer
	bytes uint64 // a power of two
}

func (m memory) ring(offset uintptr, bytes uint64) ring {
	return ring{unsafe.Add(m.base, offset), bytes}
}

// copyIn puts source, which is no longer than the ring, at a position.
func (r ring) copyIn(position uint64, source []byte) {
	rest := copy(r.behind(position), source)
	copy(r.behind(0), source[rest:])
}

// copyOut fills target, which is no longer than the ring, from a position.
func (r ring) copyOut(target []byte, position uint64) {
	rest := copy(target, r.behind(position))
	copy(target[rest:], r.behind(0))
}

// behind is the ring's bytes from a position up to its end, for one call of copy.
func (r ring) behind(position uint64) []byte {
	index := position & (r.bytes - 1)
	return unsafe.Slice((*byte)(unsafe.Add(r.base, index)), int(r.bytes-index))
}
