#include "raw.h"

#include "watch.h"

#include "object.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct instance instances[MAX_INSTANCES];
struct watch watches[MAX_WATCHES];

enum {
    READABLE = EPOLLIN | EPOLLRDNORM,
    WRITABLE = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND,
    ENDED = EPOLLRDHUP | EPOLLHUP | EPOLLERR | READABLE,
    ALWAYS = EPOLLERR | EPOLLHUP,
    /* A report may come once more, but not for ever. */
    TOLD_AGAIN_AT_MOST = 3,
    /* Over TCP, what was sent may take a moment. */
    LOOKS_AT_MOST = 4000,
    /* Not all of it is in one report, but it does not take for ever. */
    REPORTS_AT_MOST = 100,
};

#define EACH_WATCH(one) \
    for (struct watch *one = watches; one < watches + MAX_WATCHES; one++) \
        if (one->is_live)

/* ---- news ---- */

void bytes_have_come(struct connection *c) {
    EACH_WATCH(watch) {
        if (watch->connection == c && watch->bytes == NO_NEWS) watch->bytes = NEWS;
        if (watch->connection == c) watch->told_again = 0;
    }
}

void space_has_come(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c && watch->space == NO_NEWS) watch->space = NEWS;
}

void end_has_come(struct connection *c) {
    /* By TCP it need not be told, where bytes were that are there still. */
    enum edge edge = c->is_tcp && surely_unread(c) ? PERHAPS_NEWS : NEWS;
    EACH_WATCH(watch) if (watch->connection == c && watch->end == NO_NEWS) watch->end = edge;
}

void edges_are_over(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c) watch->bytes = is_certain(c) ? NO_NEWS : PERHAPS_NEWS;
}

void was_empty(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c) watch->bytes = watch->end = NO_NEWS;
}

void was_full(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c) watch->space = NO_NEWS;
}

void edges_are_uncertain(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c && watch->bytes == NO_NEWS) watch->bytes = PERHAPS_NEWS;
}

void was_used(struct connection *c) {
    EACH_WATCH(watch) if (watch->connection == c) watch->told_again = 0;
}

void object_has_news(struct object *object) {
    EACH_WATCH(watch) if (watch->object == object) {
        watch->bytes = NEWS;
        watch->told_again = 0;
    }
}

/* ---- readiness ---- */

static struct ready readiness_of_member(const struct watch *watch) {
    if (watch->connection) return readiness(watch->connection);
    if (watch->object) return readiness_of_object(watch->object);
    return readiness_of_instance(watch->instance);
}

static unsigned asked(const struct watch *watch) {
    return (watch->events & ~(EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP)) | ALWAYS;
}

/* What a wait must report of it now, and may. */
static struct ready report_of(const struct watch *watch) {
    struct ready ready = readiness_of_member(watch);
    if (!watch->is_armed) return (struct ready){0, 0};
    ready.must &= asked(watch);
    ready.may &= asked(watch);
    if (watch->events & EPOLLET) {
        unsigned news = 0;
        if (watch->bytes == NEWS) news |= READABLE;
        if (watch->space == NEWS) news |= WRITABLE;
        if (watch->end == NEWS) news |= ENDED;
        ready.must &= news;
    }
    return ready;
}

struct ready readiness_of_instance(const struct instance *instance) {
    struct ready all = {0, instance->may_be_rung ? READABLE : 0};
    EACH_WATCH(watch) if (watch->in == instance) {
        struct ready one = report_of(watch);
        if (one.must) all.must |= READABLE;
        if (one.may) all.may |= READABLE;
        /* A doorbell for somebody else: docs/clients.md. */
        if (watch->connection && watch->connection->is_endpoint && !is_plain) all.may |= READABLE;
    }
    return all;
}

int may_report_others(const struct instance *instance, const struct watch *but) {
    EACH_WATCH(watch) if (watch->in == instance && watch != but && report_of(watch).may) return 1;
    return 0;
}

static int is_over_tcp(const struct instance *instance) {
    EACH_WATCH(watch) if (watch->in == instance) {
        if (watch->connection && watch->connection->is_tcp) return 1;
        if (watch->instance && is_over_tcp(watch->instance)) return 1;
    }
    return 0;
}

/* ---- instances ---- */

struct instance *any_instance(struct random *random) {
    struct instance *best = NULL;
    uint64_t choice = any(random), most = 0;
    for (int i = 0; i < MAX_INSTANCES; i++) {
        uint64_t preferred = preference(choice, instances[i].made);
        if (instances[i].is_live && (!best || preferred > most)) best = &instances[i], most = preferred;
    }
    return best;
}

struct instance *new_instance(struct random *random, enum style style) {
    unsigned way = below(random, 4);
    for (int i = 0; i < MAX_INSTANCES; i++) {
        struct instance *instance = &instances[i];
        if (instance->is_live) continue;
        int is_born_unseen = style == UNSEEN || once_in(random, 10);
        int fd;
        /* Who had the number before is known to be gone: docs/clients.md. */
        if (is_born_unseen) CALL(close(CALL(dup(0))));
        count_call();
        if (is_born_unseen) fd = raw(SYS_epoll_create1, EPOLL_CLOEXEC);
        else if (way == 0) fd = epoll_create(7);
        else if (way == 1) fd = epoll_create1(0);
        else if (way == 2) fd = epoll_create1(EPOLL_CLOEXEC);
        else fd = syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
        CHECK(fd >= 0, "epoll_create: errno %d", errno);
        *instance = (struct instance){1, journal->steps, is_born_unseen, style, {fd}, 1, 0};
        say("instance %d: fd %d%s%s", i, fd, is_born_unseen ? ", born unseen" : "",
            style == UNSEEN ? ", waited for unseen" : "");
        return instance;
    }
    return NULL;
}

void forget_instance(struct instance *instance) {
    EACH_WATCH(watch) if (watch->in == instance || watch->instance == instance) watch->is_live = 0;
    instance->is_live = 0;
}

void number_is_closed(const struct connection *c, int fd) {
    EACH_WATCH(watch) if (watch->connection == c && watch->fd == fd) watch->is_nameless = 1;
}

void forget_watches_of(const struct connection *c, int is_closed_unseen) {
    EACH_WATCH(watch) if (watch->connection == c) {
        watch->is_live = 0;
        watch->in->may_be_rung |= is_closed_unseen && !is_plain;
    }
}

void forget_watches_of_object(const struct object *object) {
    EACH_WATCH(watch) if (watch->object == object) watch->is_live = 0;
}

/* ---- epoll_ctl ---- */

static int any_number_of(const struct instance *instance, struct random *random) {
    return instance->fds[(any(random) >> 8) % instance->names];
}

static int control_by(struct instance *instance, int operation, int fd, struct epoll_event *event,
                      struct random *random) {
    int epfd = any_number_of(instance, random);
    if (instance->style == UNSEEN) {
        long result = raw(SYS_epoll_ctl, epfd, operation, fd, event);
        errno = result < 0 ? -result : 0;
        return result < 0 ? -1 : 0;
    }
    count_call();
    return once_in(random, 5) ? syscall(SYS_epoll_ctl, epfd, operation, fd, event)
                              : epoll_ctl(epfd, operation, fd, event);
}

/* A registration reports at once what is there. */
static void is_registered(struct watch *watch, struct epoll_event event) {
    watch->events = event.events;
    watch->data = event.data.u64;
    watch->is_armed = 1;
    watch->told_again = 0;
    struct ready ready = readiness_of_member(watch);
    watch->bytes = ready.must & READABLE ? NEWS : ready.may & READABLE ? PERHAPS_NEWS : NO_NEWS;
    watch->space = ready.must & WRITABLE ? NEWS : ready.may & WRITABLE ? PERHAPS_NEWS : NO_NEWS;
    unsigned end = EPOLLRDHUP | ALWAYS;
    watch->end = ready.must & end ? NEWS : ready.may & end ? PERHAPS_NEWS : NO_NEWS;
}

static unsigned any_events(struct random *random) {
    static const unsigned wanted[] = {EPOLLIN, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLRDHUP, EPOLLOUT,
                                      EPOLLIN | EPOLLOUT | EPOLLRDHUP, 0, EPOLLRDHUP,
                                      EPOLLIN | EPOLLPRI, EPOLLRDNORM | EPOLLWRNORM};
    unsigned events = wanted[below(random, 3) ? below(random, 5) : below(random, 9)];
    switch (below(random, 6)) {
    case 0: case 1: return events | EPOLLET;
    case 2: return events | EPOLLONESHOT;
    case 3: return events | EPOLLET | EPOLLONESHOT;
    default: return events;
    }
}

static struct watch *watch_of(const struct instance *instance, const void *target, int fd) {
    EACH_WATCH(watch)
        if (watch->in == instance && watch->fd == fd
            && (watch->connection == target || watch->object == target || watch->instance == target))
            return watch;
    return NULL;
}

static struct watch *free_watch(void) {
    for (struct watch *watch = watches; watch < watches + MAX_WATCHES; watch++)
        if (!watch->is_live) return watch;
    return NULL;
}

/* One of `operation`s, right or wrong. */
static struct watch *control_one(struct instance *instance, int operation, struct watch target, int fd,
                                 unsigned events, struct random *random) {
    const void *it = target.connection ? (void *)target.connection
        : target.object ? (void *)target.object : (void *)target.instance;
    struct watch *known = watch_of(instance, it, fd);
    struct watch *watch = known ? known : free_watch();
    if (!watch || known && known->is_nameless) return NULL;
    struct epoll_event event = {.events = events, .data.u64 = any(random)};
    int expected = operation == EPOLL_CTL_ADD ? (known ? EEXIST : 0) : known ? 0 : ENOENT;
    if (operation == EPOLL_CTL_MOD && known && (known->events & EPOLLEXCLUSIVE || events & EPOLLEXCLUSIVE))
        expected = EINVAL;
    if (operation == EPOLL_CTL_MOD && !known && events & EPOLLEXCLUSIVE) expected = -1;
    int result = control_by(instance, operation, fd, &event, random), error = result ? errno : 0;
    say("epoll_ctl(instance %d, %s, %d, %#x, %#llx): errno %d", (int)(instance - instances),
        operation == EPOLL_CTL_ADD ? "ADD" : operation == EPOLL_CTL_MOD ? "MOD" : "DEL", fd, events,
        (unsigned long long)event.data.u64, error);
    CHECK(expected < 0 ? error : error == expected, "epoll_ctl: errno %d instead of %d", error, expected);
    if (error) return NULL;
    if (operation == EPOLL_CTL_DEL) {
        known->is_live = 0;
        return NULL;
    }
    if (!known) {
        *watch = target;
        watch->is_live = 1;
        watch->in = instance;
        watch->fd = fd;
    }
    is_registered(watch, event);
    return watch;
}

int is_watched(const struct instance *inner) {
    EACH_WATCH(watch) if (watch->instance == inner) return 1;
    return 0;
}

/* What docs/architecture.md says of nested instances: one watches the other, which was seen
 * when it was made, and has one number. */
static int may_be_nested(const struct instance *outer, const struct instance *inner) {
    if (outer == inner || inner->style != outer->style || outer->is_born_unseen || is_watched(outer)) return 0;
    if (inner->names > 1) return 0;
    EACH_WATCH(watch) {
        if (watch->in == inner && watch->instance) return 0;
        if (watch->instance == inner && watch->in != outer) return 0;
    }
    return 1;
}

void control_watches(struct instance *instance, struct random *random) {
    struct watch target = {0};
    int fd;
    unsigned kind = below(random, 12), events = any_events(random);
    struct object *object = any_object(random);
    struct instance *inner = any_instance(random);
    struct connection *c = any_connection(random);
    if (kind == 0 && object) {
        target.object = object;
        fd = object->fd;
    } else if (kind == 1 && inner && may_be_nested(instance, inner)) {
        target.instance = inner;
        fd = any_number_of(inner, random);
        events = EPOLLIN;
    } else if (c && (c->style == HOOKED) == (instance->style == HOOKED)) {
        target.connection = c;
        fd = any_name(c, random);
    } else {
        return;
    }
    const void *it = target.connection ? (void *)target.connection
        : target.object ? (void *)target.object : (void *)target.instance;
    int is_known = watch_of(instance, it, fd) != NULL;
    /* Mostly what is right. */
    int operation = once_in(random, 20) ? 1 + (int)below(random, 3)
        : !is_known ? EPOLL_CTL_ADD : once_in(random, 4) ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (operation == EPOLL_CTL_ADD && target.connection && !(events & EPOLLONESHOT) && once_in(random, 8))
        events = (events & (EPOLLIN | EPOLLOUT | EPOLLET)) | EPOLLEXCLUSIVE;
    control_one(instance, operation, target, fd, events, random);
}

struct watch *watch_for(struct instance *instance, struct connection *c, int fd, unsigned events,
                        struct random *random) {
    struct watch *known = watch_of(instance, c, fd);
    if (known && known->events & EPOLLEXCLUSIVE) return NULL;
    struct watch target = {.connection = c};
    return control_one(instance, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, target, fd, events, random);
}

/* ---- epoll_wait ---- */

static int wait_in(struct instance *instance, struct epoll_event *events, int capacity, int timeout_ms,
                   struct random *random) {
    int epfd = any_number_of(instance, random), result;
    do {
        result = instance->style == UNSEEN ? epoll_wait_unseen(epfd, events, capacity, timeout_ms)
                                           : epoll_wait_by(epfd, events, capacity, timeout_ms, random);
    } while (was_interrupted(result));
    instance->may_be_rung = 0;
    return result;
}

static void evidence_of(const struct instance *instance) {
    if (instance->style == UNSEEN) return;
    EACH_WATCH(watch) if (watch->in == instance) {
        if (watch->connection) seen_waiting(watch->connection);
        if (watch->instance) evidence_of(watch->instance);
    }
}

/* A report: it must be true, and news where only news is told. */
static void was_reported(struct instance *instance, const struct epoll_event *event) {
    struct watch *watch = NULL;
    EACH_WATCH(each)
        if (each->in == instance && each->data == event->data.u64) watch = each;
    CHECK(watch, "instance %d reports %#x of data %#llx, which nobody registered (any more)",
          (int)(instance - instances), event->events, (unsigned long long)event->data.u64);
    struct ready report = report_of(watch);
    const char *what = watch->connection ? "c" : watch->object ? "object " : "instance ";
    int index = watch->connection ? (int)watch->connection->generator.id
        : watch->object ? (int)(watch->object - objects) : (int)(watch->instance - instances);
    say("  reports %#x of %s%d as %d (of %#x, %#x to %#x)", event->events, what, index, watch->fd,
        watch->events, report.must, report.may);
    CHECK(watch->is_armed, "%s%d is reported, and is not armed", what, index);
    CHECK(event->events && !(event->events & ~report.may),
          "%s%d: %#x is reported, and only %#x may be", what, index, event->events, report.may);
    int is_news = report.must || watch->bytes == PERHAPS_NEWS || watch->space == PERHAPS_NEWS
        || watch->end == PERHAPS_NEWS;
    if (watch->events & EPOLLET && !is_news && (!watch->connection || is_certain(watch->connection)))
        CHECK(++watch->told_again <= TOLD_AGAIN_AT_MOST, "%s%d: an edge is told again and again", what, index);
    if (watch->events & EPOLLONESHOT) {
        /* By TCP, some of it may still be on its way. */
        int is_tcp = watch->connection && watch->connection->is_tcp;
        CHECK(is_tcp || !(report.must & ~event->events), "%s%d: %#x is not in its only report, %#x", what, index,
              report.must & ~event->events, event->events);
        watch->is_armed = 0;
    }
    /* It may have come since, where we do not know what comes. */
    enum edge next = !watch->connection || is_certain(watch->connection) ? NO_NEWS : PERHAPS_NEWS;
    if (event->events & READABLE) watch->bytes = next;
    if (event->events & WRITABLE) watch->space = next;
    if (event->events & ENDED) watch->end = next;
    /* It may be known here later than there. */
    if (event->events & EPOLLHUP & ~report.must) watch->end = PERHAPS_NEWS;
}

void look(struct instance *instance, struct random *random) {
    struct epoll_event events[16];
    int capacity = once_in(random, 3) ? 1 + below(random, 3) : 16;
    unsigned missing[MAX_WATCHES] = {0};
    int outstanding = 0, may = 0, is_tcp = is_over_tcp(instance);
    evidence_of(instance);
    EACH_WATCH(watch) if (watch->in == instance) {
        struct ready report = report_of(watch);
        missing[watch - watches] = report.must;
        outstanding += report.must != 0;
        may += report.may != 0;
    }
    int calls = 0;
    int timeout_ms = outstanding && !is_tcp ? (int)below(random, 3) - 1 : 0;
    say("look in instance %d: %d must be reported, %d may; room for %d", (int)(instance - instances),
        outstanding, may, capacity);
    do {
        int count = wait_in(instance, events, capacity, timeout_ms, random), error = errno;
        CHECK(count >= 0 && count <= capacity, "epoll_wait: %d (errno %d)", count, error);
        if (!count && outstanding && !is_tcp) break;
        for (int i = 0; i < count; i++) {
            for (int j = 0; j < i; j++)
                CHECK(events[i].data.u64 != events[j].data.u64, "the same twice in one report");
            struct watch *watch = NULL;
            EACH_WATCH(each)
                if (each->in == instance && each->data == events[i].data.u64) watch = each;
            was_reported(instance, &events[i]);
            if (!watch) continue;
            unsigned *left = &missing[watch - watches];
            unsigned more = watch->is_armed ? *left & ~events[i].events : 0;
            if (*left && !more) outstanding--;
            *left = more;
        }
        if (!outstanding) return;
        if (is_tcp) {
            struct { long s, ns; } moment = {0, 50000};
            raw(SYS_nanosleep, &moment, NULL);
        }
    } while (++calls < (is_tcp ? LOOKS_AT_MOST : REPORTS_AT_MOST));
    EACH_WATCH(watch) if (watch->in == instance && missing[watch - watches])
        fail("instance %d: %#x of fd %d (of %#x) is not reported (%d calls)", (int)(instance - instances),
             missing[watch - watches], watch->fd, watch->events, calls + 1);
}

void sleep_in(struct instance *instance, struct watch *watch, unsigned events, struct random *random) {
    struct epoll_event event;
    evidence_of(instance);
    unsigned reported = 0;
    /* What leads to it may be told first. */
    for (int calls = 0; calls < 8 && !(reported & events); calls++) {
        CHECK(wait_in(instance, &event, 1, -1, random) == 1, "epoll_wait: errno %d", errno);
        CHECK(event.data.u64 == watch->data, "asleep in instance %d: data %#llx is reported",
              (int)(instance - instances), (unsigned long long)event.data.u64);
        was_reported(instance, &event);
        reported |= event.events;
        if (!(reported & events) && watch->events & EPOLLONESHOT) break;
    }
    CHECK(reported & events, "woken for %#x, not for %#x", reported, events);
}
