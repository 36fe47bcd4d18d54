package main

import (
	"context"
	"net"

	"github.com/gomodule/redigo/redis"
	goredis "github.com/redis/go-redis/v9"
)

// client is a library that was told how to connect.
type client struct {
	do    func(value string) error
	close func()
}

// dial is how it connects.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

func openGoRedis(socket string, dial dial, connections int) client {
	c := goredis.NewClient(&goredis.Options{Network: "unix", Addr: socket, Dialer: dial, PoolSize: connections})
	ctx := context.Background()
	return client{
		do: func(value string) error {
			if value == "" {
				return c.Ping(ctx).Err()
			}
			return c.Echo(ctx, value).Err()
		},
		close: func() { c.Close() },
	}
}

func openRedigo(socket string, dial dial, connections int) client {
	pool := &redis.Pool{
		MaxActive: connections,
		MaxIdle:   connections,
		Wait:      true,
		Dial: func() (redis.Conn, error) {
			return redis.Dial("unix", socket, redis.DialNetDial(func(network, address string) (net.Conn, error) {
				return dial(context.Background(), network, address)
			}))
		},
	}
	return client{
		do: func(value string) error {
			c := pool.Get()
			defer c.Close()
			var err error
			if value == "" {
				_, err = c.Do("PING")
			} else {
				_, err = c.Do("ECHO", value)
			}
			return err
		},
		close: func() { pool.Close() },
	}
}
