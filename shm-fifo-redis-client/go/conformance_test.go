//go:build linux && (amd64 || arm64)

package shmfifo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// Whatever a server does: redis-shm, which make test-go builds beside the module, plays it.
func TestRedisTheClientConforms(t *testing.T) {
	redistest.Watchdog(t)
	tool := filepath.Join(filepath.Dir(os.Getenv("SHM_FIFO_MODULE")), "redis-shm")
	program := filepath.Join(t.TempDir(), "conformance")
	build := exec.Command("go", "build", "-o", program, "./internal/conformance")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, options := range []string{"conformance --", "conformance --tcp --"} {
		output, err := exec.Command(tool, append(strings.Fields(options), program)...).CombinedOutput()
		if err != nil || strings.Count(string(output), "\nok ") < 40 {
			t.Errorf("redis-shm %s: %v\n%s", options, err, output)
		}
	}
}
