//go:build linux && (amd64 || arm64)

package shmfifo

import (
	"syscall"
	"unsafe"
)

// currentCPU is the one that this goroutine runs on at the moment.
func currentCPU() uint32 {
	var cpu uint32
	_, _, _ = syscall.RawSyscall(sysGetcpu, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return cpu
}
