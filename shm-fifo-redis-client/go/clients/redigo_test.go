package clients

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// redigo is a connection on shared memory, or nothing.
func redigo(t *testing.T, network, address string, options ...redis.DialOption) redis.Conn {
	t.Helper()
	redistest.Watchdog(t)
	dialer := &shmfifo.Dialer{Strict: true}
	c, err := redis.Dial(network, address, append(options, redis.DialNetDial(dialer.Dial))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRedigoCommandsPipelinesAndTransactions(t *testing.T) {
	server := redistest.WithModule(t, "--requirepass", "secret")
	for network, address := range map[string]string{"unix": server.Socket, "tcp": "127.0.0.1:" + server.Port} {
		c := redigo(t, network, address, redis.DialPassword("secret"), redis.DialDatabase(2))
		for i := 1; i < 100; i++ {
			if got, err := redis.Int(c.Do("INCR", "of "+network)); got != i || err != nil {
				t.Fatal(got, err)
			}
		}
		for i := 0; i < 3000; i++ {
			if err := c.Send("ECHO", strings.Repeat("e", i%300)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < 3000; i++ {
			if got, err := redis.String(c.Receive()); err != nil || got != strings.Repeat("e", i%300) {
				t.Fatal(got, err)
			}
		}
		_ = c.Send("MULTI")
		_ = c.Send("SET", "a", 1)
		_ = c.Send("INCR", "a")
		if got, err := redis.Values(c.Do("EXEC")); err != nil || fmt.Sprint(got) != "[OK 2]" {
			t.Fatal(got, err)
		}
	}
}

func TestRedigoSubscriptions(t *testing.T) {
	server := redistest.WithModule(t)
	subscriber := redis.PubSubConn{Conn: redigo(t, "unix", server.Socket)}
	if err := subscriber.Subscribe("news"); err != nil {
		t.Fatal(err)
	}
	if _, isSubscribed := subscriber.Receive().(redis.Subscription); !isSubscribed {
		t.Fatal("not subscribed")
	}
	publisher := redigo(t, "unix", server.Socket)
	for i := 0; i < 500; i++ {
		if _, err := publisher.Do("PUBLISH", "news", i); err != nil {
			t.Fatal(err)
		}
		if got, _ := subscriber.Receive().(redis.Message); string(got.Data) != fmt.Sprint(i) {
			t.Fatal(got)
		}
	}
	if err, isError := subscriber.ReceiveWithTimeout(20 * time.Millisecond).(error); !isError || !err.(net.Error).Timeout() {
		t.Fatal(err)
	}
}

func TestRedigoAPoolOfTenForAHundredGoroutines(t *testing.T) {
	server := redistest.WithModule(t)
	redistest.Watchdog(t)
	dialer := &shmfifo.Dialer{Strict: true}
	pool := &redis.Pool{MaxActive: 10, MaxIdle: 10, Wait: true, Dial: func() (redis.Conn, error) {
		return redis.Dial("unix", server.Socket, redis.DialNetDial(dialer.Dial))
	}}
	defer pool.Close()
	var all sync.WaitGroup
	for i := 0; i < 100; i++ {
		i := i
		all.Add(1)
		go func() {
			defer all.Done()
			for k := 0; k < 200; k++ {
				c := pool.Get()
				if got, err := redis.Int(c.Do("ECHO", i*1000+k)); got != i*1000+k || err != nil {
					t.Error(got, err)
				}
				c.Close()
			}
		}()
	}
	all.Wait()
	moved(t, server, 2)
}

func TestRedigoAnEndIsAnError(t *testing.T) {
	server := redistest.WithModule(t)
	c := redigo(t, "unix", server.Socket)
	if _, err := c.Do("PING"); err != nil {
		t.Fatal(err)
	}
	if err := c.Send("BLPOP", "nothing", 0); err != nil {
		t.Fatal(err)
	}
	_ = c.Flush()
	ended := make(chan error)
	go func() {
		_, err := c.Receive()
		ended <- err
	}()
	server.Kill()
	if err := <-ended; err == nil || c.Err() == nil {
		t.Fatal(err)
	}

	without := redistest.Start(t)
	c = redigo(t, "unix", without.Socket)
	if _, err := c.Do("PING"); !errors.Is(err, shmfifo.ErrNoModule) {
		t.Fatal(err)
	}
}
