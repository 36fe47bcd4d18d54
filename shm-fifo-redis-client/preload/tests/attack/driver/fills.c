#include "raw.h"

#include "control.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* How the program waits for space. */
enum how { BY_POLL, BY_LEVEL, BY_EDGE, BY_ONE_SHOT };

static void set_held(struct connection *c, int held) {
    c->is_held = held;
    control(held ? HOLD : RELEASE, c->generator.id, 0, 0);
}

static void has_no_space(struct connection *c, struct random *random) {
    struct pollfd entry = {.fd = any_name(c, random), .events = POLLOUT};
    int result;
    do result = c->style == HOOKED ? poll_by(any_way_to_poll(random, 0), &entry, 1, 0)
                                   : poll_unseen(&entry, 1, 0);
    while (was_interrupted(result));
    CHECK(c->is_tcp || result == 0, "there is no space, and poll says %#x", entry.revents);
}

/* Something comes while there is no space. */
static void read_beside(struct connection *c, struct random *random) {
    char buffer[1024];
    size_t size = length_up_to(random, 500);
    add_push(c, size);
    control(PUSH, c->generator.id, size, 0);
    while (coming(c)) {
        struct pollfd entry = {.fd = any_name(c, random), .events = POLLIN};
        int result = c->style == HOOKED ? poll_by(any_way_to_poll(random, 1), &entry, 1, -1)
                                        : poll_unseen(&entry, 1, -1);
        if (was_interrupted(result)) continue;
        CHECK(result == 1 && entry.revents & POLLIN, "poll: %d (errno %d), %#x", result, errno, entry.revents);
        long count = read_by(any_way_to_read(random, MSG_DONTWAIT), entry.fd, buffer, sizeof buffer,
                             MSG_DONTWAIT, random);
        CHECK(count > 0, "poll says readable, and a read %ld (errno %d)", count, errno);
        was_read(c, buffer, count, 0);
    }
}

static void wait_for_space(struct connection *c, enum how how, struct instance *instance,
                           struct watch *watch, struct random *random) {
    if (how == BY_POLL || !watch || may_report_others(instance, watch)) {
        struct pollfd entry = {.fd = any_name(c, random), .events = POLLOUT};
        int result;
        do result = c->style == HOOKED ? poll_by(any_way_to_poll(random, 1), &entry, 1, -1)
                                       : poll_unseen(&entry, 1, -1);
        while (was_interrupted(result));
        CHECK(result == 1 && entry.revents & POLLOUT, "poll: %d (errno %d), %#x", result, errno, entry.revents);
        return;
    }
    if (how == BY_ONE_SHOT)
        CHECK(watch_for(instance, c, watch->fd, EPOLLOUT | EPOLLONESHOT, random), "cannot be armed again");
    sleep_in(instance, watch, EPOLLOUT, random);
}

static int has_space(const struct connection *c) { return c->server_end == NOT_ENDED && c->rest.length; }

/* The program writes until there is no space, waits until there is, and goes on. */
static void fill_without_waiting(struct connection *c, struct random *random) {
    enum how how = below(random, 4);
    struct instance *instance = any_instance(random);
    struct watch *watch = NULL;
    /* To be told to that one it would have to come back to its socket, for which the server has
     * to be at work. */
    if (instance && instance->is_born_unseen) instance = NULL;
    static const unsigned events[] = {0, EPOLLOUT, EPOLLOUT | EPOLLET, EPOLLOUT | EPOLLONESHOT};
    unsigned delay_us = once_in(random, 2) ? 0 : below(random, 500);
    int beside = once_in(random, 3), syncs = once_in(random, 3), early = once_in(random, 2);
    if (how != BY_POLL && instance && instance->style == c->style && early)
        watch = watch_for(instance, c, any_name(c, random), events[how] | (how == BY_EDGE ? EPOLLIN : 0), random);
    if (watch) look(instance, random);
    while (has_space(c) && (write_rest(c, c->rest.length, random) || c->is_full != 2)) {}
    /* Until it says so. */
    while (has_space(c) && write_rest(c, c->rest.length, random)) {}
    if (c->rest.length) {
        say("c%d: there is no space", (int)c->generator.id);
        c->is_full = c->is_tcp ? 2 : 1;
        has_no_space(c, random);
        if (watch && instance->is_live) look(instance, random);
        if (beside) read_beside(c, random);
    }
    if (how != BY_POLL && instance && instance->style == c->style && !watch)
        watch = watch_for(instance, c, any_name(c, random), events[how], random);
    if (syncs) {
        set_held(c, 0);
        sync_with_server(c);
        if (watch) look(instance, random);
    } else {
        c->is_held = 0;
        if (c->is_full) c->is_full = 2;
        control(LATER | RELEASE, c->generator.id, 0, delay_us);
    }
    while (has_space(c)) {
        if (!c->is_full && write_rest(c, c->rest.length, random)) break;
        if (!has_space(c)) break;
        wait_for_space(c, how, instance, watch, random);
        c->is_full = 0;
    }
}

void fill_and_drain(struct random *random) {
    struct connection *c = any_connection(random);
    unsigned delay_us = below(random, 600);
    if (!c || c->rest.length || c->ends_by || c->shut_writing || c->shut_reading || c->withholds) return;
    read_all(c, random);
    sync_with_server(c);
    if (c->server_end != NOT_ENDED || c->is_stuck || c->may_die && !is_plain) return;
    size_t size = 3000 + length_up_to(random, c->is_tcp ? 200000 : 600000);
    if (c->style == HOOKED) seen_waiting(c);
    say("c%d: the server does not read; %zu bytes are written", (int)c->generator.id, size);
    add_request(c, SET, size, 0);
    set_held(c, 1);
    if (c->nonblocking) {
        fill_without_waiting(c, random);
    } else {
        c->is_held = 0;
        control(LATER | RELEASE, c->generator.id, 0, delay_us);
        while (has_space(c)) write_rest(c, c->rest.length, random);
    }
    sync_with_server(c);
}
