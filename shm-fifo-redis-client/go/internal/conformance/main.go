// The program that redis-shm conformance runs to look at this client: docs/conformance.md.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"strings"

	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
)

func main() {
	address, network := os.Getenv("SHM_FIFO_CONFORMANCE"), "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	connection, err := (&shmfifo.Dialer{}).Dial(network, address)
	if err != nil {
		log.Fatal(err)
	}
	c := &client{connection, bufio.NewReader(connection)}
	if _, err := c.ask("HELLO", "3"); err != nil {
		log.Fatal(err)
	}
	for {
		value, err := c.ask("GET", "next")
		if err != nil {
			log.Fatal(err)
		}
		if value == "" {
			return
		}
		if echo, err := c.ask("ECHO", strings.TrimPrefix(value, "$")); err != nil || echo != value {
			log.Fatal("another value came back: ", err)
		}
	}
}

type client struct {
	net.Conn
	bytes *bufio.Reader
}

// ask sends a command with one argument, and reads its reply.
func (c *client) ask(name, argument string) (string, error) {
	_, err := fmt.Fprintf(c, "*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(name), name, len(argument), argument)
	for err == nil {
		var value string
		if value, err = c.value(); err == nil && !strings.HasPrefix(value, ">") {
			return value, nil
		}
	}
	return "", err
}

// value is the next: a string behind a $, nothing for nil, and of all others no more than their type.
func (c *client) value() (string, error) {
	line, err := c.bytes.ReadString('\n')
	if err != nil {
		return "", err
	}
	count, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '_':
		return "", nil
	case '-':
		return "", errors.New(line)
	case '$':
		value := make([]byte, count+2)
		_, err := io.ReadFull(c.bytes, value)
		return "$" + string(value[:count]), err
	case '%':
		count *= 2
	case '*', '>':
	default:
		count = 0
	}
	for ; count > 0 && err == nil; count-- {
		_, err = c.value()
	}
	return line[:1], err
}
