//go:build amd64 || arm64

package shmfifo

// pause tells the CPU that this thread looks again and again, so that another one on the same
// core gets on.
func pause()
