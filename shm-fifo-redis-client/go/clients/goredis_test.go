package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
	"github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/internal/redistest"
)

// goRedis is a client on shared memory, or nothing.
func goRedis(t *testing.T, options redis.Options) *redis.Client {
	t.Helper()
	redistest.Watchdog(t)
	dialer := &shmfifo.Dialer{Strict: true}
	options.Dialer = dialer.DialContext
	if options.Network == "" {
		options.Network = "unix"
	}
	client := redis.NewClient(&options)
	t.Cleanup(func() { client.Close() })
	return client
}

// moved checks how many connections have ever moved.
func moved(t *testing.T, server *redistest.Server, least int) {
	t.Helper()
	var got int
	if _, err := fmt.Sscan(server.Info(t, "shm_total_sessions"), &got); err != nil || got < least {
		t.Fatalf("%d connections have moved instead of %d: %v", got, least, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestGoRedisCommandsByUnixSocketAndTCPInRESP2And3(t *testing.T) {
	server := redistest.WithModule(t, "--requirepass", "secret")
	for _, protocol := range []int{2, 3} {
		for network, address := range map[string]string{"unix": server.Socket, "tcp": "127.0.0.1:" + server.Port} {
			client := goRedis(t, redis.Options{Network: network, Addr: address, Password: "secret", DB: 3,
				ClientName: "me", Protocol: protocol})
			ctx := context.Background()
			must(t, client.Set(ctx, "a", "b", time.Minute).Err())
			if got := client.Get(ctx, "a").Val(); got != "b" {
				t.Fatal(got)
			}
			if err := client.Get(ctx, "none").Err(); err != redis.Nil {
				t.Fatal(err)
			}
			must(t, client.HSet(ctx, "h", "x", 1, "y", 2).Err())
			if got := client.HGetAll(ctx, "h").Val(); fmt.Sprint(got) != "map[x:1 y:2]" {
				t.Fatal(got)
			}
			if got := client.ClientGetName(ctx).Val(); got != "me" {
				t.Fatal(got)
			}
			if got := client.Do(ctx, "SHM.LIST").String(); !strings.Contains(got, "id=") && !strings.Contains(got, "[") {
				t.Fatal(got)
			}
		}
	}
}

func TestGoRedisPipelinesTransactionsAndScripts(t *testing.T) {
	server := redistest.WithModule(t)
	client := goRedis(t, redis.Options{Addr: server.Socket})
	ctx := context.Background()
	results, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := 0; i < 5000; i++ {
			p.Echo(ctx, strings.Repeat("e", i%500))
		}
		return nil
	})
	must(t, err)
	for i, result := range results {
		if got := result.(*redis.StringCmd).Val(); got != strings.Repeat("e", i%500) {
			t.Fatalf("%d: %q", i, got)
		}
	}
	var incremented *redis.IntCmd
	must(t, client.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			incremented = p.Incr(ctx, "n")
			return nil
		})
		return err
	}, "n"))
	if incremented.Val() != 1 {
		t.Fatal(incremented)
	}
	script := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
	if got, err := script.Run(ctx, client, []string{"n"}, 41).Int(); got != 42 || err != nil {
		t.Fatal(got, err)
	}
	moved(t, server, 1)
}

func TestGoRedisSubscriptions(t *testing.T) {
	server := redistest.WithModule(t)
	for _, protocol := range []int{2, 3} {
		client := goRedis(t, redis.Options{Addr: server.Socket, Protocol: protocol})
		ctx := context.Background()
		subscription := client.Subscribe(ctx, "news")
		_, err := subscription.Receive(ctx)
		must(t, err)
		messages := subscription.Channel()
		must(t, subscription.PSubscribe(ctx, "mo*"))
		for i := 0; i < 500; i++ {
			must(t, client.Publish(ctx, "news", i).Err())
			if got := <-messages; got.Payload != fmt.Sprint(i) {
				t.Fatal(got)
			}
		}
		for client.Publish(ctx, "more", "m").Val() == 0 {
			time.Sleep(time.Millisecond) // until the pattern is in force
		}
		if got := <-messages; got.Channel != "more" {
			t.Fatal(got)
		}
		must(t, subscription.Close())
	}
	moved(t, server, 4)
}

func TestGoRedisLargeValues(t *testing.T) {
	server := redistest.WithModule(t)
	size := 64 << 20
	if testing.Short() {
		size = 8 << 20
	}
	client := goRedis(t, redis.Options{Addr: server.Socket, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	value := make([]byte, size)
	rand.New(rand.NewSource(5)).Read(value)
	ctx := context.Background()
	must(t, client.Set(ctx, "large", value, 0).Err())
	if got := client.Get(ctx, "large").Val(); got != string(value) {
		t.Fatalf("%d other bytes came back", len(got))
	}
}

func TestGoRedisAHundredGoroutinesOnTenConnections(t *testing.T) {
	server := redistest.WithModule(t)
	client := goRedis(t, redis.Options{Addr: server.Socket, PoolSize: 10})
	rounds := 1000
	if testing.Short() {
		rounds = 200
	}
	var all sync.WaitGroup
	for i := 0; i < 100; i++ {
		i := i
		all.Add(1)
		go func() {
			defer all.Done()
			ctx := context.Background()
			for k := 0; k < rounds; k++ {
				value := fmt.Sprint(strings.Repeat("v", k%300), i, k)
				if got, err := client.Echo(ctx, value).Result(); err != nil || got != value {
					t.Errorf("%q %v", got, err)
					return
				}
			}
		}()
	}
	all.Wait()
	moved(t, server, 2)
}

func TestGoRedisTimeoutsAndContextsEndAWait(t *testing.T) {
	server := redistest.WithModule(t)
	client := goRedis(t, redis.Options{Addr: server.Socket, ReadTimeout: 50 * time.Millisecond, MaxRetries: -1,
		ContextTimeoutEnabled: true})
	ctx := context.Background()
	must(t, client.Ping(ctx).Err())
	if err := client.Do(ctx, "CLIENT", "PAUSE", "100000").Err(); err != nil {
		t.Fatal(err)
	}
	err := client.Set(ctx, "a", "b", 0).Err()
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := client.Set(soon, "a", "b", 0).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Fatal(err)
	}
}

func TestGoRedisGoesOnAfterTheServerEndsItsConnections(t *testing.T) {
	server := redistest.WithModule(t)
	client := goRedis(t, redis.Options{Addr: server.Socket})
	ctx := context.Background()
	for i := 0; i < 20; i++ {
		must(t, client.Ping(ctx).Err())
		if _, err := server.Ask("CLIENT KILL TYPE normal SKIPME yes"); err != nil {
			t.Fatal(err)
		}
	}
	must(t, client.Ping(ctx).Err())
	server.Kill()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Fatal("a dead server answers")
	}
}

// As over a socket, none of those that the server has ended is used again.
func TestGoRedisFindsItsIdleConnectionsEnded(t *testing.T) {
	server := redistest.WithModule(t)
	client := goRedis(t, redis.Options{Addr: server.Socket, PoolSize: 20, MaxRetries: -1})
	ctx := context.Background()
	var idle []*redis.Conn
	for i := 0; i < 20; i++ {
		connection := client.Conn()
		must(t, connection.Ping(ctx).Err())
		idle = append(idle, connection)
	}
	for _, connection := range idle {
		must(t, connection.Close())
	}
	moved(t, server, 20)
	if _, err := server.Ask("CLIENT KILL TYPE normal SKIPME yes"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond) // it is not looked each time, and they are idle
	for i := 0; i < 40; i++ {
		must(t, client.Ping(ctx).Err())
	}
}

func TestGoRedisWithoutTheModule(t *testing.T) {
	server := redistest.Start(t)
	strict := goRedis(t, redis.Options{Addr: server.Socket})
	if err := strict.Ping(context.Background()).Err(); !errors.Is(err, shmfifo.ErrNoModule) {
		t.Fatal(err)
	}
	var reasons sync.Map
	dialer := &shmfifo.Dialer{Notify: func(c *shmfifo.Conn) { reasons.Store(c.NotMoved(), true) }}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket, Dialer: dialer.DialContext})
	defer client.Close()
	must(t, client.Ping(context.Background()).Err())
	for { // it is told on a goroutine of its own
		if _, told := reasons.Load(shmfifo.ErrNoModule); told {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestGoRedisACluster(t *testing.T) {
	server := redistest.WithModule(t, "--cluster-enabled", "yes")
	if reply, err := server.Ask("CLUSTER ADDSLOTSRANGE 0 16383"); err != nil || reply != "+OK\r\n" {
		t.Fatal(reply, err)
	}
	for {
		if reply, _ := server.Ask("CLUSTER INFO"); strings.Contains(reply, "cluster_state:ok") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	redistest.Watchdog(t)
	dialer := &shmfifo.Dialer{Strict: true}
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{"127.0.0.1:" + server.Port}, Dialer: dialer.DialContext})
	defer client.Close()
	ctx := context.Background()
	for i := 0; i < 100; i++ {
		must(t, client.Set(ctx, fmt.Sprint("key", i), i, 0).Err())
	}
	moved(t, server, 1)
}
