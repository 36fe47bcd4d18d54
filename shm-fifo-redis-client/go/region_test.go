//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

const (
	fcntlAddSeals = 1033
	allSeals      = 1 | 2 | 4 // seal, shrink, grow
)

var memfdCreate = map[string]uintptr{"amd64": 319, "arm64": 279}[runtime.GOARCH]

// newMemfd makes a file in memory that may be sealed.
func newMemfd(t testing.TB, size int64) *os.File {
	t.Helper()
	name := []byte("region\x00")
	fd, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(&name[0])), 1|2, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	file := os.NewFile(fd, "region")
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return file
}

func seal(t testing.TB, file *os.File, seals uintptr) {
	t.Helper()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), fcntlAddSeals, seals); errno != 0 {
		t.Fatal(errno)
	}
}

// A region that its creator could have made, and what to spoil in it.
type regionFile struct {
	size      int64
	magic     uint64
	version   uint64
	ringBytes uint64
	seals     uintptr
}

func goodRegion(ringBytes uint64) regionFile {
	return regionFile{int64(regionBytes(ringBytes)), magic, layoutVersion, ringBytes, allSeals}
}

func (r regionFile) create(t testing.TB) *os.File {
	t.Helper()
	file := newMemfd(t, r.size)
	if r.size >= ringsAt {
		bytes, err := syscall.Mmap(int(file.Fd()), 0, ringsAt, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		m := memory{unsafe.Pointer(&bytes[0])}
		m.word64(magicAt).store(r.magic)
		m.word64(layoutVersionAt).store(r.version)
		m.word64(ringBytesAt).store(r.ringBytes)
		m.word64(tokenAt).store(0x0706050403020100)
		m.word64(tokenAt + 8).store(0x0f0e0d0c0b0a0908)
		for _, header := range []uintptr{toCreatorHeaderAt, toAttacherHeaderAt} {
			m.word32(header + consumerParkedAt).store(1)
		}
		_ = syscall.Munmap(bytes)
	}
	seal(t, file, r.seals)
	return file
}

// newRegion is one that both ends have attached to.
func newRegion(t testing.TB, ringBytes uint64) (attacher, creator *region) {
	t.Helper()
	file := goodRegion(ringBytes).create(t)
	both := [2]*region{}
	for i := range both {
		var err error
		if both[i], err = attach(int(file.Fd())); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(both[i].unmap)
	}
	return both[0], both[1]
}

// creator is the ends of the other side.
func (r *region) creator() (*producer, *consumer) {
	m := r.memory()
	in := newConsumer(memory{unsafe.Add(m.base, toCreatorHeaderAt)}, m.ring(ringsAt, r.ringBytes))
	out := newProducer(memory{unsafe.Add(m.base, toAttacherHeaderAt)}, m.ring(ringsAt+uintptr(r.ringBytes), r.ringBytes))
	return out, in
}

func TestARegionHasItsToken(t *testing.T) {
	r, _ := newRegion(t, minRingBytes)
	const want = "SHM.START 000102030405060708090a0b0c0d0e0f\r\n"
	if got := startCommand(r.token); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestWhatIsNoRegionIsRefused(t *testing.T) {
	spoiled := map[string]func(*regionFile){
		"not sealed":            func(r *regionFile) { r.seals = 0 },
		"sealed against growth": func(r *regionFile) { r.seals = 4 },
		"empty":                 func(r *regionFile) { r.size = 0 },
		"a header alone":        func(r *regionFile) { r.size = ringsAt },
		"a byte too long":       func(r *regionFile) { r.size++ },
		"rings too small":       func(r *regionFile) { *r = goodRegion(2048) },
		"rings of an odd size":  func(r *regionFile) { *r = goodRegion(3 * 4096) },
		"rings too large":       func(r *regionFile) { *r = goodRegion(1 << 31) },
		"other rings":           func(r *regionFile) { r.ringBytes *= 2 },
		"other magic":           func(r *regionFile) { r.magic++ },
		"version 1":             func(r *regionFile) { r.version = 1 },
	}
	for name, spoil := range spoiled {
		t.Run(name, func(t *testing.T) {
			file := goodRegion(4 * minRingBytes)
			spoil(&file)
			if r, err := attach(int(file.create(t).Fd())); err == nil {
				t.Fatalf("attached to %+v", r)
			}
		})
	}
}

func TestAPipeIsNoRegion(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	if _, err := attach(int(reader.Fd())); err == nil {
		t.Fatal("attached to a pipe")
	}
}

func TestAMappingIsNeitherInheritedNorDumped(t *testing.T) {
	newRegion(t, minRingBytes)
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, mapping := range strings.Split(string(maps), "VmFlags:")[1:] {
		flags, _, _ := strings.Cut(mapping, "\n")
		if strings.Contains(flags, " dc ") && strings.Contains(flags, " dd ") && strings.Contains(flags, " sh ") {
			return
		}
	}
	t.Fatal("no shared mapping is kept from children and dumps")
}
