#include "raw.h"

#include "control.h"
#include "object.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

/* What will end the sleep. */
enum end { BY_PUSH, BY_LATE_REPLY, BY_RELEASED_REPLY, BY_CLOSE, BY_END_OF_SENDING, ENDS };
static const char *const names_of_ends[] = {"a push", "a late reply", "a released reply", "a close",
                                            "an end of sending"};

static void arrange(struct connection *c, enum end end, unsigned delay_us, struct random *random) {
    switch (end) {
    case BY_PUSH: {
        size_t size = length_up_to(random, 500);
        add_push(c, size);
        control(LATER | PUSH, c->generator.id, size, delay_us);
        break;
    }
    case BY_LATE_REPLY:
        add_request(c, LATE, delay_us, 0);
        while (c->rest.length && c->server_end == NOT_ENDED) write_rest(c, c->rest.length, random);
        break;
    case BY_RELEASED_REPLY:
        add_request(c, WITHHOLD, 0, 0);
        while (c->rest.length && c->server_end == NOT_ENDED) write_rest(c, c->rest.length, random);
        sync_with_server(c);
        c->withholds = 0;
        c->is_synced = 0;
        control(LATER | RELEASE_REPLY, c->generator.id, 0, delay_us);
        break;
    case BY_CLOSE:
        c->may_die = 1;
        c->ends_by = QUIT;
        c->is_synced = 0;
        journal->connections[c->generator.id].may_be_lost = 1;
        control(LATER | CLOSE, c->generator.id, 0, delay_us);
        break;
    default:
        c->ends_by = HALFQUIT;
        c->is_synced = 0;
        control(LATER | END_SENDING, c->generator.id, 0, delay_us);
    }
}

static void sleep_in_poll(struct connection *c, struct random *random) {
    unsigned way = any_way_to_poll(random, c->style == HOOKED);
    struct object *object = any_object(random);
    struct pollfd entries[2] = {{.fd = any_name(c, random), .events = POLLIN}};
    int with_object = object && !(readiness_of_object(object).may & POLLIN);
    if (with_object) entries[1] = (struct pollfd){.fd = object->fd, .events = POLLIN};
    say("c%d: asleep in %s", (int)c->generator.id, c->style == HOOKED ? names_of_polls[way] : "its own ppoll");
    if (c->style == HOOKED) seen_waiting(c);
    int result;
    do {
        result = c->style == HOOKED ? poll_by(way, entries, 1 + with_object, -1)
                                    : poll_unseen(entries, 1 + with_object, -1);
    } while (was_interrupted(result));
    CHECK(result == 1 && entries[0].revents & POLLIN && entries[1].revents == 0,
          "woken: %d (errno %d), %#x and %#x", result, errno, entries[0].revents, entries[1].revents);
}

static int sleep_in_epoll(struct connection *c, struct random *random) {
    static const unsigned wanted[] = {EPOLLIN, EPOLLIN | EPOLLRDHUP, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT,
                                      EPOLLIN | EPOLLET | EPOLLRDHUP, EPOLLIN | EPOLLET | EPOLLONESHOT};
    unsigned events = wanted[below(random, 6)];
    struct instance *instance = any_instance(random);
    if (!instance || instance->style != c->style) return 0;
    struct watch *watch = watch_for(instance, c, any_name(c, random), events, random);
    if (!watch || may_report_others(instance, watch)) return 0;
    say("c%d: asleep in instance %d", (int)c->generator.id, (int)(instance - instances));
    sleep_in(instance, watch, EPOLLIN, random);
    return 1;
}

static void sleep_in_read(struct connection *c, struct random *random) {
    char byte;
    int flags = once_in(random, 2) ? MSG_PEEK : 0;
    unsigned way = any_way_to_read(random, flags);
    long result;
    if (c->style == HOOKED) seen_waiting(c);
    say("c%d: asleep in %s", (int)c->generator.id, names_of_reads[way]);
    do result = read_by(way, any_name(c, random), &byte, 1, flags, random);
    while (was_interrupted(result));
    CHECK(result == 1 || result == 0 && perhaps_ended(c) || result < 0 && errno == ECONNRESET && perhaps_ended(c),
          "woken: %ld (errno %d)", result, errno);
    if (result > 0) was_read(c, &byte, 1, flags & MSG_PEEK);
}

/* Something comes while the program sleeps for it. */
void sleep_for_something(struct random *random) {
    struct connection *c = any_connection(random);
    unsigned how = below(random, 3), delay_us = once_in(random, 2) ? below(random, 60) : below(random, 800);
    enum end end = once_in(random, 8) ? BY_CLOSE + below(random, 2) : below(random, 3);
    if (!c || c->rest.length || c->ends_by || c->shut_writing || c->shut_reading || c->withholds) return;
    read_all(c, random);
    sync_with_server(c);
    /* By its script it may end at any moment, or push something else. */
    if (c->server_end != NOT_ENDED || surely_unread(c) || c->is_stuck || !is_certain(c)) return;
    say("c%d: %s comes in %u us", (int)c->generator.id, names_of_ends[end], delay_us);
    if (how == 0 && !c->nonblocking && !c->receive_timeout_ms) {
        arrange(c, end, delay_us, random);
        sleep_in_read(c, random);
    } else if (how == 1) {
        arrange(c, end, delay_us, random);
        sleep_in_poll(c, random);
    } else {
        /* In an instance where nothing else happens. */
        arrange(c, end, delay_us, random);
        if (!sleep_in_epoll(c, random)) sleep_in_poll(c, random);
    }
    sync_with_server(c);
}

/* Nothing comes: the time runs out, and not before. */
void sleep_in_vain(struct random *random) {
    struct connection *c = any_connection(random);
    unsigned way = any_way_to_poll(random, 1), ms = 1 + below(random, 3), how = below(random, 3);
    struct instance *instance = any_instance(random);
    struct timespec before, after;
    if (!c || c->style == UNSEEN || c->rest.length || has_timer) return;
    read_all(c, random);
    sync_with_server(c);
    if (c->server_end != NOT_ENDED || perhaps_unread(c) || c->shut_reading || perhaps_ended(c)) return;
    seen_waiting(c);
    clock_gettime(CLOCK_MONOTONIC, &before);
    long result;
    const char *what;
    if (how == 0 && !c->nonblocking) {
        char byte;
        struct timeval time = {0, ms * 1000}, never = {0, 0};
        int fd = any_name(c, random);
        what = "a read with SO_RCVTIMEO";
        CHECK(CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time)) == 0, "errno %d", errno);
        result = read_by(any_way_to_read(random, 0), fd, &byte, 1, 0, random);
        CHECK(result == -1 && errno == EAGAIN, "%s: %ld (errno %d)", what, result, errno);
        CHECK(CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never)) == 0, "errno %d", errno);
        was_empty(c);
    } else if (how == 1 && instance && instance->style == HOOKED && !may_report_others(instance, NULL)) {
        struct epoll_event event;
        what = "an epoll wait";
        look(instance, random);
        result = epoll_wait_by(instance->fds[0], &event, 1, ms, random);
        CHECK(result == 0, "%s: %ld (errno %d)", what, result, errno);
    } else {
        struct pollfd entry = {.fd = any_name(c, random), .events = POLLIN};
        what = names_of_polls[way];
        result = poll_by(way, &entry, 1, ms);
        CHECK(result == 0, "%s: %ld (errno %d), %#x", what, result, errno, entry.revents);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    /* The time of a socket is counted in ticks, and the kernel may be late to count one. */
    long early_us = how == 0 && !c->nonblocking ? 10000 : 100;
    long us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    say("c%d: %s of %u ms took %ld us", (int)c->generator.id, what, ms, us);
    CHECK(us >= (long)ms * 1000 - early_us, "%s of %u ms ended after %ld us", what, ms, us);
}
