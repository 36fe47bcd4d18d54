// Bench measures PING by go-redis and redigo over their own sockets and over shared memory, in
// turns, and prints a table. It fails if shared memory is slower in any row, by more than a tenth.
//
//	bench -module libshm_fifo_redis_server.so [-rounds 9] [-seconds 0.5] [-only 'PING, 1 g']
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	shmfifo "github.com/shm-fifo/shm-fifo/shm-fifo-redis-client/go"
)

// condition is one row.
type condition struct {
	name       string
	open       func(socket string, dial dial, connections int) client
	goroutines int
	pool       int
	value      string
	procs      int // GOMAXPROCS; 0 is the machine's
}

func conditions() []condition {
	large := strings.Repeat("x", 64<<10)
	var all []condition
	for name, open := range map[string]func(string, dial, int) client{"go-redis": openGoRedis, "redigo": openRedigo} {
		for _, row := range []condition{
			{"PING, 1 goroutine", open, 1, 1, "", 0},
			{"PING, 1 goroutine, GOMAXPROCS=1", open, 1, 1, "", 1},
			{"PING, 10 goroutines, 10 connections", open, 10, 10, "", 0},
			{"PING, 100 goroutines, 10 connections", open, 100, 10, "", 0},
			{"PING, 100 goroutines, 10 connections, GOMAXPROCS=1", open, 100, 10, "", 1},
			{"PING, 100 goroutines, 100 connections", open, 100, 100, "", 0},
			{"ECHO of 64 KiB, 1 goroutine", open, 1, 1, large, 0},
			{"ECHO of 64 KiB, 10 goroutines", open, 10, 10, large, 0},
		} {
			row.name = name + ", " + row.name
			all = append(all, row)
		}
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].name[:3] < all[k].name[:3] })
	return all
}

// result is one round: the median and the 99th percentile of a request, and how many there
// were in a second.
type result struct {
	p50, p99  time.Duration
	perSecond float64
}

func measure(row condition, c client, duration time.Duration) result {
	if row.procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(row.procs))
	}
	var all sync.WaitGroup
	took := make([][]time.Duration, row.goroutines)
	began := time.Now()
	for i := range took {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			for last := time.Now(); last.Sub(began) < duration; {
				if err := c.do(row.value); err != nil {
					log.Fatalf("%s: %v", row.name, err)
				}
				now := time.Now()
				took[i] = append(took[i], now.Sub(last))
				last = now
			}
		}(i)
	}
	all.Wait()
	elapsed := time.Since(began)
	var each []time.Duration
	for _, some := range took {
		each = append(each, some...)
	}
	sort.Slice(each, func(i, k int) bool { return each[i] < each[k] })
	return result{each[len(each)/2], each[len(each)*99/100], float64(len(each)) / elapsed.Seconds()}
}

// median is that of each column.
func median(results []result) result {
	pick := func(less func(a, b result) bool) result {
		sort.Slice(results, func(i, k int) bool { return less(results[i], results[k]) })
		return results[len(results)/2]
	}
	return result{
		p50:       pick(func(a, b result) bool { return a.p50 < b.p50 }).p50,
		p99:       pick(func(a, b result) bool { return a.p99 < b.p99 }).p99,
		perSecond: pick(func(a, b result) bool { return a.perSecond < b.perSecond }).perSecond,
	}
}

// row measures one condition over both, in turns.
func (row condition) measure(socket string, rounds int, duration time.Duration) (unix, shm result) {
	plain, moving := &net.Dialer{}, &shmfifo.Dialer{Strict: true}
	ways := [2]client{row.open(socket, plain.DialContext, row.pool), row.open(socket, moving.DialContext, row.pool)}
	var results [2][]result
	for i := 0; i <= rounds; i++ {
		for way, c := range ways {
			r := measure(row, c, duration)
			if i > 0 { // the first one is to warm up
				results[way] = append(results[way], r)
			}
		}
	}
	for _, c := range ways {
		c.close()
	}
	return median(results[0]), median(results[1])
}

func main() {
	module := flag.String("module", "", "libshm_fifo_redis_server.so")
	rounds := flag.Int("rounds", 5, "how often each is measured; the medians count")
	seconds := flag.Float64("seconds", 0.3, "how long a round takes")
	only := flag.String("only", "", "the rows whose names contain this")
	flag.Parse()
	socket, stop := startServer(*module)
	defer stop()

	fmt.Printf("%s, %d CPUs, medians of %d rounds of %v s\n\n", runtime.Version(), runtime.NumCPU(), *rounds, *seconds)
	fmt.Println("| | unix p50 µs | p99 | 1/s | shm p50 µs | p99 | 1/s | p50 unix/shm | 1/s shm/unix |")
	fmt.Println("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	slower := 0
	for _, row := range conditions() {
		if !strings.Contains(row.name, *only) {
			continue
		}
		unix, shm := row.measure(socket, *rounds, time.Duration(*seconds*float64(time.Second)))
		us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
		gain := shm.perSecond / unix.perSecond
		fmt.Printf("| %s | %.1f | %.1f | %.0f | %.1f | %.1f | %.0f | %.1f | %.1f |\n", row.name,
			us(unix.p50), us(unix.p99), unix.perSecond, us(shm.p50), us(shm.p99), shm.perSecond,
			us(unix.p50)/us(shm.p50), gain)
		if gain < 0.9 { // two runs of the same differ by as much
			slower++
		}
	}
	if slower > 0 {
		stop()
		log.Fatalf("bench: shared memory was slower in %d rows", slower)
	}
}
