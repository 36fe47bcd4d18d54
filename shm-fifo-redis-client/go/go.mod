module github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go

go 1.19
