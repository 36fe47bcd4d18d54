module github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go/clients

go 1.19

require (
	github.com/gomodule/redigo v1.8.3
	github.com/redis/go-redis/v9 v9.17.2
	github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go v0.0.0
)

replace github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go => ../
