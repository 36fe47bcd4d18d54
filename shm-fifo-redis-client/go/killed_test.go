//go:build linux && (amd64 || arm64)

package shmfifo_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

const victimOf = "SHMFIFO_TEST_VICTIM_OF"

// A test that needs a second process starts its own binary again.
func TestMain(m *testing.M) {
	if socket := os.Getenv(victimOf); socket != "" {
		victim(socket)
	}
	os.Exit(m.Run())
}

// victim says that it has moved, and goes on for ever.
func victim(socket string) {
	connection, err := (&shmfifo.Dialer{Strict: true}).Dial("unix", socket)
	if err != nil {
		panic(err)
	}
	echo := request("ECHO", strings.Repeat("e", 50_000))
	go func() {
		for {
			if _, err := io.WriteString(connection, echo); err != nil {
				panic(err)
			}
		}
	}()
	reply := make([]byte, 100_000)
	for i := 0; ; i++ {
		if _, err := connection.Read(reply); err != nil {
			panic(err)
		}
		if i == 10 {
			fmt.Println("moved")
		}
	}
}

func TestRedisOfAClientThatIsKilledNothingIsLeft(t *testing.T) {
	redistest.Watchdog(t)
	server := redistest.WithModule(t)
	for i := 0; i < 5; i++ {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), victimOf+"="+server.Socket)
		output, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(output).ReadString('\n')
		_ = process.Process.Kill()
		_ = process.Wait()
		if line != "moved\n" {
			t.Fatal(line, err)
		}
		for server.Info(t, "shm_sessions") != "0" {
			time.Sleep(time.Millisecond) // until the server has noticed
		}
	}
	c := connect(t, strict, "unix", server.Socket)
	c.ask("PONG", "PING")
	c.isOn("shm")
}
