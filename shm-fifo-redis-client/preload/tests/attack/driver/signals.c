#include "raw.h"

#include "object.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

volatile sig_atomic_t broken_pipes, has_timer;
static volatile sig_atomic_t ticks;
static int own_pipe[2];

int was_interrupted(long result) { return result == -1 && errno == EINTR && has_timer; }

static void note_broken_pipe(int signal) {
    (void)signal;
    broken_pipes++;
}

/* What a handler may do: it polls, selects, writes and reads, whatever it has interrupted. */
static void tick(int signal) {
    (void)signal;
    int before = errno, turn = ticks++;
    char byte = 1;
    struct pollfd entries[MAX_LIVE + 1];
    fd_set reads;
    struct timeval now = {0, 0};
    int count = 0;
    for (int i = 0; i < MAX_LIVE; i++) {
        /* It may be that the connection is just being made. */
        struct connection *c = &connections[i];
        if (!c->is_live || c->style == UNSEEN || !c->names || !c->requests) continue;
        seen_waiting(c);
        entries[count++] = (struct pollfd){.fd = c->fds[0], .events = POLLIN | POLLOUT};
    }
    entries[count++] = (struct pollfd){.fd = own_pipe[0], .events = POLLIN};
    if (write(own_pipe[1], &byte, 1) != 1) fail("a handler cannot write: errno %d", errno);
    if (turn % 2) {
        if (poll(entries, count, 0) < 1 || !(entries[count - 1].revents & POLLIN))
            fail("poll in a handler does not see a pipe");
    } else {
        FD_ZERO(&reads);
        for (int i = 0; i < count; i++) FD_SET(entries[i].fd, &reads);
        if (select(FD_SETSIZE, &reads, NULL, NULL, &now) < 1 || !FD_ISSET(own_pipe[0], &reads))
            fail("select in a handler does not see a pipe");
    }
    if (read(own_pipe[0], &byte, 1) != 1) fail("a handler cannot read: errno %d", errno);
    errno = before;
}

void set_timer(int us) {
    struct itimerval timer = {{0, us}, {0, us}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

void prepare_signals(struct random *random) {
    struct sigaction broken = {.sa_handler = note_broken_pipe};
    struct sigaction ticking = {.sa_handler = tick, .sa_flags = SA_RESTART};
    CHECK(pipe2(own_pipe, O_CLOEXEC) == 0, "pipe2");
    sigaction(SIGPIPE, &broken, NULL);
    sigaction(SIGALRM, &ticking, NULL);
    has_timer = once_in(random, 5);
    if (has_timer) set_timer(150 + below(random, 2000));
}

/* A wait that nothing but a signal ends. */
void interrupted_wait(struct random *random) {
    struct connection *c = any_connection(random);
    unsigned how = below(random, 3), way = any_way_to_poll(random, 1);
    struct instance *instance = any_instance(random);
    struct sigaction ticking = {.sa_handler = tick};
    if (!c || c->style == UNSEEN || has_timer || c->rest.length) return;
    read_all(c, random);
    sync_with_server(c);
    if (c->server_end != NOT_ENDED || perhaps_unread(c) || c->shut_reading || perhaps_ended(c)) return;
    sigaction(SIGALRM, &ticking, NULL);
    seen_waiting(c);
    int before = ticks;
    long result;
    char byte;
    if (how == 0 && !c->nonblocking) {
        set_timer(1000);
        result = read_by(any_way_to_read(random, 0), any_name(c, random), &byte, 1, 0, random);
    } else if (how == 1 && instance && instance->style == HOOKED && !may_report_others(instance, NULL)) {
        struct epoll_event event;
        look(instance, random);
        set_timer(1000);
        result = epoll_wait_by(instance->fds[0], &event, 1, -1, random);
    } else {
        struct pollfd entry = {.fd = any_name(c, random), .events = POLLIN};
        set_timer(1000);
        result = poll_by(way, &entry, 1, -1);
    }
    int error = errno;
    set_timer(0);
    say("c%d: interrupted after %d ticks: %ld (errno %d)", (int)c->generator.id, ticks - before, result, error);
    CHECK(result == -1 && error == EINTR && ticks > before, "a wait that a signal ends: %ld (errno %d), %d ticks",
          result, error, ticks - before);
    struct sigaction restarting = {.sa_handler = tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &restarting, NULL);
}
