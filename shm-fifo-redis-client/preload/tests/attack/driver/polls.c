#include "raw.h"

#include "object.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <poll.h>

enum { ENTRIES = 6, READ_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
       WRITE_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR, LOOKS_AT_MOST = 4000 };

struct asked {
    struct pollfd entries[ENTRIES];
    struct ready ready[ENTRIES];
    const struct connection *connections[ENTRIES];
    unsigned count;
};

static void ask(struct asked *asked, int fd, unsigned events, struct ready ready, const struct connection *c) {
    say("  asks %d (c%d) for %#x: %#x to %#x", fd, c ? (int)c->generator.id : -1, events, ready.must, ready.may);
    asked->entries[asked->count] = (struct pollfd){fd, events, -1};
    asked->ready[asked->count] = ready;
    asked->connections[asked->count++] = c;
}

static int is_asked(const struct asked *asked, int fd) {
    for (unsigned i = 0; i < asked->count; i++)
        if (asked->entries[i].fd == fd) return 1;
    return 0;
}

static void ask_for_some(struct asked *asked, int selects, enum style style, struct random *random) {
    static const unsigned wanted[] = {POLLIN, POLLOUT, POLLIN | POLLOUT, POLLIN | POLLRDHUP, 0,
                                      POLLIN | POLLPRI, POLLRDNORM | POLLWRNORM};
    unsigned count = 1 + below(random, ENTRIES);
    for (unsigned i = 0; i < count; i++) {
        unsigned events = wanted[below(random, selects ? 3 : 7)], kind = below(random, 12);
        struct connection *c = any_connection(random);
        struct object *object = any_object(random);
        struct instance *instance = any_instance(random);
        if (kind == 0 && object && !is_asked(asked, object->fd)) {
            ask(asked, object->fd, events, readiness_of_object(object), NULL);
        } else if (kind == 1 && !selects) {
            ask(asked, -1, events, (struct ready){0, 0}, NULL);
        } else if (kind == 2 && !selects && !is_asked(asked, 899)) {
            ask(asked, 899, events, (struct ready){POLLNVAL, POLLNVAL}, NULL);
        } else if (kind == 3 && instance && instance->style == style && !is_asked(asked, instance->fds[0])) {
            ask(asked, instance->fds[0], events, readiness_of_instance(instance), NULL);
        } else if (c && c->style == style) {
            int fd = any_name(c, random);
            if (is_asked(asked, fd)) continue;
            ask(asked, fd, events, readiness(c), c);
        }
    }
}

/* What must be said of an entry, and may. */
static struct ready answers(const struct asked *asked, unsigned index, int selects) {
    struct ready ready = asked->ready[index];
    unsigned events = asked->entries[index].events;
    if (!selects) {
        events |= POLLHUP | POLLERR | POLLNVAL;
        return (struct ready){ready.must & events, ready.may & events};
    }
    struct ready bits = {0, 0};
    if (events & POLLIN && ready.must & READ_SET) bits.must |= POLLIN;
    if (events & POLLIN && ready.may & READ_SET) bits.may |= POLLIN;
    if (events & POLLOUT && ready.must & WRITE_SET) bits.must |= POLLOUT;
    if (events & POLLOUT && ready.may & WRITE_SET) bits.may |= POLLOUT;
    return bits;
}

void poll_some(struct random *random) {
    enum style style = once_in(random, 10) ? UNSEEN : HOOKED;
    unsigned way = any_way_to_poll(random, style == HOOKED);
    int selects = is_select(way), wanted_timeout = (int)below(random, 4) - 1, syncs = once_in(random, 3);
    struct connection *c = any_connection(random);
    struct asked asked = {.count = 0};
    if (syncs && c) sync_with_server(c);
    ask_for_some(&asked, selects, style, random);
    int must = 0, is_tcp = 0;
    for (unsigned i = 0; i < asked.count; i++) {
        struct ready bits = answers(&asked, i, selects);
        must += bits.must != 0;
        if (asked.connections[i] && asked.connections[i]->is_tcp) is_tcp = 1;
        if (!asked.connections[i] && asked.ready[i].must) is_tcp |= 0;
        if (style == HOOKED && asked.connections[i]) seen_waiting(asked.connections[i]);
    }
    int timeout_ms = must && !is_tcp ? wanted_timeout : 0;
    say("%s of %u, %d must be ready, timeout %d ms", style == HOOKED ? names_of_polls[way] : "its own ppoll",
        asked.count, must, timeout_ms);
    for (int looks = 0;; looks++) {
        int result = style == HOOKED ? poll_by(way, asked.entries, asked.count, timeout_ms)
                                     : poll_unseen(asked.entries, asked.count, timeout_ms);
        if (was_interrupted(result)) continue;
        CHECK(result >= 0, "errno %d", errno);
        int ready_entries = 0, missing = 0;
        for (unsigned i = 0; i < asked.count; i++) {
            struct ready bits = answers(&asked, i, selects);
            unsigned said = (unsigned short)asked.entries[i].revents;
            const struct connection *of = asked.connections[i];
            ready_entries += selects ? __builtin_popcount(said) : said != 0;
            CHECK(!(said & ~bits.may), "fd %d (c%d): asked for %#x, it says %#x, and only %#x may be",
                  asked.entries[i].fd, of ? (int)of->generator.id : -1, asked.entries[i].events, said, bits.may);
            if (!(bits.must & ~said)) continue;
            missing = 1;
            CHECK(is_tcp && looks < LOOKS_AT_MOST, "fd %d (c%d): asked for %#x, it says %#x, and %#x must be",
                  asked.entries[i].fd, of ? (int)of->generator.id : -1, asked.entries[i].events, said, bits.must);
        }
        CHECK(ready_entries == result, "it returns %d, and %d are said to be ready", result, ready_entries);
        if (!missing) return;
        struct { long s, ns; } moment = {0, 50000};
        raw(SYS_nanosleep, &moment, NULL);
    }
}
