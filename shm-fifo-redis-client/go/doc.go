// Package shmfifo moves connections between Go programs and a Redis server on the same machine
// from sockets to shared memory. The server needs the module shm-fifo-redis-server; where it has
// none, or runs on another host, connections stay on their sockets and work all the same.
//
// A [Dialer] plugs into the libraries that programs use already:
//
//	dialer := &shmfifo.Dialer{}
//	client := redis.NewClient(&redis.Options{ // go-redis
//		Network: "unix",
//		Addr:    "/run/redis/redis.sock",
//		Dialer:  dialer.DialContext,
//	})
//
//	connection, err := redis.Dial("unix", "/run/redis/redis.sock", // redigo
//		redis.DialNetDial(dialer.Dial))
//
// The library logs in as ever. At the first request after HELLO and AUTH that it sends while no
// reply is outstanding, the connection asks the server for memory, and that request goes by it
// already. From then on reading and writing make no system calls while both sides are awake.
//
// A Read that finds nothing looks again for some microseconds, if that has been paying, and then
// sleeps in Go's network poller, as a Read of a socket does: it holds no thread.
//
// No part of it uses cgo, and it has no dependencies. On anything but Linux on amd64 and arm64
// it compiles, and connections stay on their sockets.
package shmfifo
