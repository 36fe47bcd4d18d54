#include "raw.h"

#include "control.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* How the threads share the work. */
enum pattern {
    EACH_WAITS, /* one writes, one reads, and both wait for themselves */
    REACTOR,    /* one waits by edges and tells the others, as tokio does */
    POOL,       /* whoever is told of it reads, and arms it again */
    PATTERNS,
};
static const char *const names_of_patterns[] = {"each waits", "a reactor", "a pool"};

static struct {
    struct connection connection; /* what is to be read */
    struct bytes requests;
    struct bytes ends;
    uint64_t replies;             /* bytes that are to come */
    uint64_t requests_before;
    int fd, epfd, over;
    enum pattern pattern;
    struct random random;
    pthread_mutex_t reading;
    sem_t readable, writable;
    volatile int is_over;
} shared;

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) < 0) CHECK(errno == EINTR, "sem_wait: errno %d", errno);
}

static void poll_for(short events, struct random *random) {
    struct pollfd entry = {.fd = shared.fd, .events = events};
    int result = poll_by(any_way_to_poll(random, 1), &entry, 1, -1);
    CHECK(result == 1 && entry.revents & events || result < 0 && errno == EINTR,
          "a thread's poll: %d (errno %d), %#x", result, errno, entry.revents);
}

static void *write_all(void *unused) {
    (void)unused;
    struct random random = random_of(shared.random.state, 1);
    size_t written = 0, done = 0;
    while (written < shared.requests.length) {
        size_t rest = shared.requests.length - written, part = 1 + length_up_to(&random, 40000);
        if (part > rest) part = rest;
        int flags = MSG_NOSIGNAL;
        long count = write_by(any_way_to_write(&random, flags), shared.fd, shared.requests.data + written, part,
                              flags, &random);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            CHECK(errno == EAGAIN, "a thread's write: errno %d", errno);
            if (shared.pattern == REACTOR) wait_for(&shared.writable);
            else poll_for(POLLOUT, &random);
            continue;
        }
        CHECK(count > 0 && count <= (long)part, "a thread's write of %zu: %ld", part, count);
        written += count;
        const uint64_t *ends = (const uint64_t *)shared.ends.data;
        while (done < shared.ends.length / sizeof *ends && ends[done] <= written) done++;
        __atomic_store_n(&journal->connections[shared.connection.generator.id].requests,
                         shared.requests_before + done, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* Reads once. Whether anything was there; what came is what was to come. */
static int read_some(struct random *random) {
    static char buffer[1 << 16];
    size_t size = 1 + length_up_to(random, sizeof buffer - 1);
    long count = read_by(any_way_to_read(random, 0), shared.fd, buffer, size, 0, random);
    if (count < 0 && errno == EINTR) return 1;
    CHECK(count > 0 || count < 0 && errno == EAGAIN, "a thread's read: %ld (errno %d)", count, errno);
    if (count < 0) return 0;
    was_read(&shared.connection, buffer, count, 0);
    return 1;
}

static int is_complete(void) {
    const struct connection *c = &shared.connection;
    return c->taken - c->taken_of_scripts >= shared.replies;
}

static void *read_everything(void *unused) {
    (void)unused;
    struct random random = random_of(shared.random.state, 2);
    int waits_first = once_in(&random, 2);
    while (!is_complete()) {
        if (shared.pattern == EACH_WAITS && waits_first) poll_for(POLLIN, &random);
        if (read_some(&random)) continue;
        if (shared.pattern == REACTOR) wait_for(&shared.readable);
        else poll_for(POLLIN, &random);
    }
    return NULL;
}

static void *react(void *unused) {
    (void)unused;
    struct random random = random_of(shared.random.state, 3);
    for (;;) {
        struct epoll_event events[4];
        int count = epoll_wait_by(shared.epfd, events, 4, -1, &random);
        CHECK(count > 0 || count < 0 && errno == EINTR, "a reactor's wait: %d (errno %d)", count, errno);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == shared.over) return NULL;
            CHECK(events[i].data.fd == shared.fd, "a reactor is told of %d", events[i].data.fd);
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) sem_post(&shared.readable);
            if (events[i].events & (EPOLLOUT | EPOLLHUP)) sem_post(&shared.writable);
        }
    }
}

/* One of a pool: it is told of the connection alone, reads it empty, and arms it again. */
static void *work(void *number) {
    struct random random = random_of(shared.random.state, 10 + (uintptr_t)number);
    for (;;) {
        struct epoll_event event;
        int count = epoll_wait_by(shared.epfd, &event, 1, -1, &random);
        CHECK(count > 0 || count < 0 && errno == EINTR, "a worker's wait: %d (errno %d)", count, errno);
        if (count < 0) continue;
        if (event.data.fd == shared.over) return NULL;
        CHECK(pthread_mutex_trylock(&shared.reading) == 0, "two workers are told of a one-shot");
        while (!is_complete() && read_some(&random)) {}
        int complete = is_complete();
        pthread_mutex_unlock(&shared.reading);
        if (complete) sem_post(&shared.readable);
        struct epoll_event again = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = shared.fd};
        CHECK(CALL(epoll_ctl(shared.epfd, EPOLL_CTL_MOD, shared.fd, &again)) == 0, "arming again: errno %d", errno);
    }
}

/* Does what changes nothing, at any moment. */
static void *disturb(void *unused) {
    (void)unused;
    struct random random = random_of(shared.random.state, 4);
    int epfd = CALL(epoll_create1(EPOLL_CLOEXEC));
    for (int round = 0; !shared.is_over && round < 2000; round++) {
        struct epoll_event event = {.events = EPOLLIN | (once_in(&random, 2) ? EPOLLET : 0), .data.fd = 7};
        struct pollfd entry = {.fd = shared.fd, .events = POLLIN | POLLOUT};
        switch (below(&random, 4)) {
        case 0: {
            int copy = CALL(fcntl(shared.fd, F_DUPFD_CLOEXEC, 600));
            CHECK(copy >= 0 && CALL(close(copy)) == 0, "a copy: errno %d", errno);
            break;
        }
        case 1:
            CHECK(poll_by(any_way_to_poll(&random, 1), &entry, 1, 0) >= 0 || errno == EINTR, "poll: errno %d", errno);
            break;
        case 2: {
            int result = CALL(epoll_ctl(epfd, EPOLL_CTL_ADD, shared.fd, &event));
            CHECK(result == 0, "another instance: errno %d", errno);
            result = epoll_wait_by(epfd, &event, 1, 0, &random);
            CHECK(result <= 0 || event.data.fd == 7, "another instance reports %d", event.data.fd);
            CHECK(CALL(epoll_ctl(epfd, EPOLL_CTL_DEL, shared.fd, NULL)) == 0, "another instance: errno %d", errno);
            break;
        }
        default:
            CHECK(CALL(fcntl(shared.fd, F_GETFL)) >= 0, "F_GETFL: errno %d", errno);
        }
        for (volatile int pause = below(&random, 2000); pause > 0; pause--) {}
    }
    CALL(close(epfd));
    return NULL;
}

static void prepare_requests(struct random *random) {
    struct connection *c = &shared.connection;
    unsigned count = 1 + length_up_to(random, 120);
    for (unsigned i = 0; i < count; i++) {
        size_t size = once_in(random, 12) ? length_up_to(random, 100000) : length_up_to(random, 300);
        switch (below(random, 8)) {
        case 0: add_request(c, PING, 0, 0); break;
        case 1: add_request(c, INCR, 0, 0); break;
        case 2: add_request(c, SET, size, 0); break;
        case 3: add_request(c, GETRANGE, size, 0); break;
        case 4: add_request(c, PIECES, size, 1 + size / (1 + below(random, 10))); break;
        case 5: add_request(c, LATE, below(random, 200), 0); break;
        default: add_request(c, ECHO, size, 0);
        }
    }
}

/* Moves it, if it is to be moved: some requests, one after the other. */
static void warm_up(struct connection *c, unsigned count, struct random *random) {
    for (unsigned i = 0; i < count; i++) {
        add_request(c, PING, 0, 0);
        while (c->rest.length && c->server_end == NOT_ENDED) write_rest(c, c->rest.length, random);
        read_all(c, random);
        struct pollfd entry = {.fd = c->fds[0]};
        poll_by(any_way_to_poll(random, 0), &entry, 1, 0);
    }
}

static void register_for_threads(unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = shared.fd};
    CHECK(CALL(epoll_ctl(shared.epfd, EPOLL_CTL_ADD, shared.fd, &event)) == 0, "ADD: errno %d", errno);
    event = (struct epoll_event){.events = EPOLLIN, .data.fd = shared.over};
    CHECK(CALL(epoll_ctl(shared.epfd, EPOLL_CTL_ADD, shared.over, &event)) == 0, "ADD: errno %d", errno);
}

void several_threads(struct random *random) {
    struct connection *c = &shared.connection;
    enum pattern pattern = below(random, PATTERNS);
    unsigned workers = pattern == POOL ? 1 + below(random, 3) : pattern == REACTOR ? 1 : 0;
    unsigned warm = below(random, 24);
    int disturbs = once_in(random, 2), early = once_in(random, 2), holds = once_in(random, 3);
    int blocks = pattern == EACH_WAITS && once_in(random, 2);
    pthread_t threads[8];
    unsigned count = 0;
    memset(&shared, 0, sizeof shared);
    *c = (struct connection){.is_live = 1, .is_tcp = endpoint_is_tcp, .is_endpoint = 1, .style = HOOKED,
                             .names = 1, .generator.id = journal->steps, .is_synced = 1};
    c->fds[0] = shared.fd = connect_to(c->is_tcp, 0);
    add_request(c, ID, 0, 0);
    write_rest(c, c->rest.length, random);
    sync_with_server(c);
    if (!c->may_die || is_plain) {
        warm_up(c, warm, random);
        if (!blocks) CHECK(CALL(fcntl(shared.fd, F_SETFL, O_RDWR | O_NONBLOCK)) == 0, "F_SETFL: errno %d", errno);
        shared.pattern = pattern;
        shared.random = *random;
        shared.over = eventfd(0, EFD_CLOEXEC);
        shared.epfd = CALL(epoll_create1(EPOLL_CLOEXEC));
        pthread_mutex_init(&shared.reading, NULL);
        sem_init(&shared.readable, 0, 0), sem_init(&shared.writable, 0, 0);
        /* The numbers of requests start behind those that were made to move it. */
        uint64_t before = c->written, requests = c->requests;
        prepare_requests(random);
        shared.requests = c->rest, c->rest = (struct bytes){0};
        shared.ends = c->request_ends, c->request_ends = (struct bytes){0};
        uint64_t *ends = (uint64_t *)shared.ends.data;
        for (size_t i = 0; i < shared.ends.length / sizeof *ends; i++) ends[i] -= before;
        shared.replies = c->expected;
        for (size_t i = 0; i < c->reply_lengths.length / sizeof(uint32_t); i++)
            shared.replies += ((uint32_t *)c->reply_lengths.data)[i];
        shared.requests_before = requests;
        say("c%d: %s, %zu bytes of requests, %llu of replies%s%s", (int)c->generator.id,
            names_of_patterns[pattern], shared.requests.length, (unsigned long long)shared.replies,
            blocks ? ", blocking" : "", disturbs ? ", disturbed" : "");
        unsigned events = pattern == POOL ? EPOLLIN | EPOLLONESHOT : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        seen_waiting(c);
        if (early) register_for_threads(events);
        for (unsigned i = 0; i < workers; i++)
            pthread_create(&threads[count++], NULL, pattern == POOL ? work : react, (void *)(uintptr_t)i);
        if (!early) register_for_threads(events);
        if (holds) control(HOLD, c->generator.id, 0, 0);
        if (pattern != POOL) pthread_create(&threads[count++], NULL, read_everything, NULL);
        if (disturbs) pthread_create(&threads[count++], NULL, disturb, NULL);
        if (holds) control(LATER | RELEASE, c->generator.id, 0, 2000);
        write_all(NULL);
        say("c%d: all is written", (int)c->generator.id);
        if (pattern == POOL) while (!is_complete()) wait_for(&shared.readable);
        if (pattern != POOL) pthread_join(threads[workers], NULL);
        say("c%d: all is read", (int)c->generator.id);
        shared.is_over = 1;
        uint64_t one = 1;
        raw(SYS_write, shared.over, &one, 8);
        for (unsigned i = 0; i < count; i++)
            if (pattern == POOL || i != workers) pthread_join(threads[i], NULL);
        close(shared.over);
        CALL(close(shared.epfd));
    }
    CHECK(CALL(close(shared.fd)) == 0, "close: errno %d", errno);
    wait_for_end(c);
    free(shared.requests.data), free(shared.ends.data);
    free(c->rest.data), free(c->request_ends.data), free(c->reply_lengths.data);
    free(c->replies.data), free(c->lengths.data);
}
