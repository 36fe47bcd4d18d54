/* A loop over poll(2) for one context, as an adapter of the library is. */
#include <poll.h>
#include <time.h>

#define LOOP "poll"

typedef struct Loop {
    redisAsyncContext *ac;
    int reading, writing, ended;
    double timer; /* 0 is none */
    Other other;
} Loop;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void add_read(void *loop) { ((Loop *)loop)->reading = 1; }
static void del_read(void *loop) { ((Loop *)loop)->reading = 0; }
static void add_write(void *loop) { ((Loop *)loop)->writing = 1; }
static void del_write(void *loop) { ((Loop *)loop)->writing = 0; }
static void clean_up(void *loop) { ((Loop *)loop)->ended = 1; }
static void set_timer(void *loop, struct timeval in) {
    ((Loop *)loop)->timer = now() + (double)in.tv_sec + (double)in.tv_usec / 1e6;
}

static void attach(Loop *loop, redisAsyncContext *ac, Other other) {
    memset(loop, 0, sizeof(*loop));
    loop->ac = ac;
    loop->other = other;
    ac->ev.data = loop;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = clean_up;
    ac->ev.scheduleTimer = set_timer;
}

/* Runs until the context is gone. */
static void run(Loop *loop) {
    while (!loop->ended) {
        struct pollfd entries[] = {{(int)loop->ac->c.fd, 0, 0}, {loop->other.fd, POLLIN, 0}};
        short seen;
        int wait = -1;
        if (loop->reading)
            entries[0].events |= POLLIN;
        if (loop->writing)
            entries[0].events |= POLLOUT;
        if (loop->timer > 0) {
            double left = loop->timer - now();
            wait = left > 0 ? (int)(left * 1000) + 1 : 0;
        }
        poll(entries, 2, wait);
        seen = entries[0].revents;
        if (loop->reading && (seen & (POLLIN | POLLHUP | POLLERR)))
            handle_read(loop->ac);
        if (!loop->ended && loop->writing && (seen & (POLLOUT | POLLERR)))
            redisAsyncHandleWrite(loop->ac);
        if (!loop->ended && entries[1].revents)
            loop->other.event(loop->ac, loop->other.fd);
        if (!loop->ended && loop->timer > 0 && now() >= loop->timer) {
            loop->timer = 0;
            redisAsyncHandleTimeout(loop->ac);
        }
    }
}

static void detach(Loop *loop) { (void)loop; }
