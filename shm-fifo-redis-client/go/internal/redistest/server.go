//go:build linux

// Package redistest starts private Redis servers for tests.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server on a unix socket and a loopback port of its own.
type Server struct {
	Socket string // the path of the unix socket
	Port   string // on 127.0.0.1

	process *exec.Cmd
	log     bytes.Buffer
	ended   chan struct{}
	once    sync.Once
}

// WithModule starts a server that has the shm module, which SHM_FIFO_MODULE names.
func WithModule(t testing.TB, options ...string) *Server {
	t.Helper()
	module := os.Getenv("SHM_FIFO_MODULE")
	if _, err := os.Stat(module); err != nil {
		t.Fatal("SHM_FIFO_MODULE has to name libshm_fifo_redis_server.so, which `make module` builds; `make test-go` does both")
	}
	return Start(t, append([]string{"--loadmodule", module}, options...)...)
}

// Start starts a server. It ends with the test, also with one that fails.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	program := os.Getenv("SHM_FIFO_TEST_SERVER")
	if program == "" {
		program = "redis-server"
	}
	directory, err := os.MkdirTemp("", "shmfifo")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Socket: filepath.Join(directory, "redis.sock"), Port: freePort(t), ended: make(chan struct{})}
	arguments := []string{"--port", s.Port, "--bind", "127.0.0.1", "--unixsocket", s.Socket,
		"--save", "", "--dir", directory}
	s.process = exec.Command(program, append(arguments, options...)...)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	// A test's process that panics ends it as well.
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		t.Fatalf("%v; apt-get install redis-server", err)
	}
	go func() {
		_ = s.process.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(directory)
	})
	s.awaitReady(t)
	return s
}

// Kill ends it as kill -9 does, and waits for that.
func (s *Server) Kill() {
	s.once.Do(func() { _ = s.process.Process.Kill() })
	<-s.ended
}

// PID is the server's process id.
func (s *Server) PID() int { return s.process.Process.Pid }

// awaitReady asks until it answers, and so has loaded its module.
func (s *Server) awaitReady(t testing.TB) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		if _, err := s.Ask("PING"); err == nil {
			return
		}
		select {
		case <-s.ended:
			t.Fatalf("redis-server did not start:\n%s", s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("redis-server does not answer")
}

// Ask sends a command on a connection of its own, and returns all of the reply's bytes.
func (s *Server) Ask(command string) (string, error) {
	connection, err := net.DialTimeout("unix", s.Socket, time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(connection, "%s\r\nQUIT\r\n", command); err != nil {
		return "", err
	}
	var reply bytes.Buffer
	if _, err := reply.ReadFrom(connection); err != nil {
		return "", err
	}
	return strings.TrimSuffix(reply.String(), "+OK\r\n"), nil
}

// Info is a field of INFO shm.
func (s *Server) Info(t testing.TB, field string) string {
	t.Helper()
	reply, err := s.Ask("INFO shm")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(reply, "\r\n") {
		if value := strings.TrimPrefix(line, field+":"); value != line {
			return value
		}
	}
	t.Fatalf("INFO shm has no %s: %s", field, reply)
	return ""
}

// Watchdog ends the test's process, with the stacks of all goroutines, if it hangs.
func Watchdog(t testing.TB) {
	dog := time.AfterFunc(60*time.Second, func() { panic(t.Name() + " hangs") })
	t.Cleanup(func() { dog.Stop() })
}

func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}
