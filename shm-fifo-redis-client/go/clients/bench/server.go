package main

import (
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startServer starts a private redis-server with the module, and returns its socket and what
// ends it.
func startServer(module string) (socket string, stop func()) {
	directory, err := os.MkdirTemp("", "shmfifo")
	if err != nil {
		log.Fatal(err)
	}
	socket = filepath.Join(directory, "redis.sock")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
		"--dir", directory, "--loadmodule", module)
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		log.Fatalf("bench: %v; apt-get install redis-server", err)
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(directory)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return socket, stop
		}
	}
	stop()
	log.Fatal("bench: redis-server did not start; is -module what `make module` builds?")
	return "", nil
}
