/* A loop of libevent for one context, as the library's adapter is. */
#include <event2/event.h>

#define LOOP "libevent"

typedef struct Loop {
    redisAsyncContext *ac;
    struct event_base *base;
    struct event *reading, *writing, *timer, *of_other;
    Other other;
    int ended;
} Loop;

static void on_event(evutil_socket_t fd, short what, void *argument) {
    Loop *loop = argument;
    (void)fd;
    if (what & EV_READ)
        handle_read(loop->ac);
    if (!loop->ended && (what & EV_WRITE))
        redisAsyncHandleWrite(loop->ac);
    if (!loop->ended && (what & EV_TIMEOUT))
        redisAsyncHandleTimeout(loop->ac);
}

static void on_other(evutil_socket_t fd, short what, void *argument) {
    Loop *loop = argument;
    (void)what;
    loop->other.event(loop->ac, (int)fd);
}

static void add_read(void *loop) { event_add(((Loop *)loop)->reading, NULL); }
static void del_read(void *loop) { event_del(((Loop *)loop)->reading); }
static void add_write(void *loop) { event_add(((Loop *)loop)->writing, NULL); }
static void del_write(void *loop) { event_del(((Loop *)loop)->writing); }
static void set_timer(void *loop, struct timeval in) { event_add(((Loop *)loop)->timer, &in); }
static void clean_up(void *argument) {
    Loop *loop = argument;
    loop->ended = 1;
    event_del(loop->reading);
    event_del(loop->writing);
    event_del(loop->timer);
    if (loop->of_other)
        event_del(loop->of_other);
}

static void attach(Loop *loop, redisAsyncContext *ac, Other other) {
    memset(loop, 0, sizeof(*loop));
    loop->ac = ac;
    loop->other = other;
    loop->base = event_base_new();
    loop->reading = event_new(loop->base, (int)ac->c.fd, EV_READ | EV_PERSIST, on_event, loop);
    loop->writing = event_new(loop->base, (int)ac->c.fd, EV_WRITE | EV_PERSIST, on_event, loop);
    loop->timer = event_new(loop->base, -1, EV_TIMEOUT, on_event, loop);
    if (other.fd >= 0) {
        loop->of_other = event_new(loop->base, other.fd, EV_READ | EV_PERSIST, on_other, loop);
        event_add(loop->of_other, NULL);
    }
    ac->ev.data = loop;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = clean_up;
    ac->ev.scheduleTimer = set_timer;
}

static void run(Loop *loop) { event_base_dispatch(loop->base); }

static void detach(Loop *loop) {
    event_free(loop->reading);
    event_free(loop->writing);
    event_free(loop->timer);
    if (loop->of_other)
        event_free(loop->of_other);
    event_base_free(loop->base);
}
