#include "raw.h"

#include "control.h"
#include "steps.h"
#include "ways.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* What may take the number. */
enum thing {
    FILE_BY_OPEN, FILE_BY_OPENAT, FILE_BY_CREAT, FILE_BY_FOPEN, FILE_BY_MKSTEMP, FILE_BY_SYSCALL, MEMFD,
    A_PIPE, A_PAIR, AN_EVENT, A_COPY, A_COPY_BY_FCNTL, A_COPY_BY_SYSCALL, A_PASSED_ONE, AN_ACCEPTED_ONE,
    A_CONNECTED_ONE, THINGS,
};
static const char *const names_of_things[] = {
    "a file by open", "a file by openat", "a file by creat", "a file by fopen", "a file by mkstemp",
    "a file by syscall(openat)", "a memfd", "a pipe", "a socket pair", "an eventfd", "a copy by dup",
    "a copy by fcntl", "a copy by syscall(dup)", "a passed descriptor", "an accepted socket",
    "a connection elsewhere",
};

/* A new thing: `*fd`, and where what is written to it arrives, if elsewhere. */
struct made { int fd, other; FILE *file; };

static int memory(void) { return raw(SYS_memfd_create, "memory", MFD_CLOEXEC); }

static int accepted(int *other) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int low = raw(SYS_socket, AF_INET, SOCK_STREAM, 0), listener = raw(SYS_fcntl, low, F_DUPFD, 500);
    raw(SYS_close, low);
    raw(SYS_bind, listener, &address, length), raw(SYS_listen, listener, 1);
    raw(SYS_getsockname, listener, &address, &length);
    low = raw(SYS_socket, AF_INET, SOCK_STREAM, 0), *other = raw(SYS_fcntl, low, F_DUPFD, 500);
    raw(SYS_close, low);
    CHECK(raw(SYS_connect, *other, &address, length) == 0, "connect");
    int fd = CALL(accept(listener, NULL, NULL));
    raw(SYS_close, listener);
    return fd;
}

/* A new descriptor of what the harness has made at a high number. */
static int copied(int which, int *other, struct random *random) {
    int low = memory(), high = raw(SYS_fcntl, low, F_DUPFD, 500), fd;
    raw(SYS_close, low);
    count_call();
    if (which == A_COPY) fd = dup(high);
    else if (which == A_COPY_BY_FCNTL) fd = fcntl(high, once_in(random, 2) ? F_DUPFD : F_DUPFD_CLOEXEC, 0);
    else if (which == A_COPY_BY_SYSCALL) fd = syscall(SYS_dup, high);
    else fd = pass_by_message(high, 0);
    *other = high;
    return fd;
}

static struct made make(enum thing thing, struct random *random) {
    struct made made = {-1, -1, NULL};
    char path[200], template[220];
    int fds[2];
    snprintf(path, sizeof path, "%s.file", unix_path);
    snprintf(template, sizeof template, "%s.XXXXXX", unix_path);
    count_call();
    switch (thing) {
    case FILE_BY_OPEN: made.fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600); break;
    case FILE_BY_OPENAT: made.fd = openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600); break;
    case FILE_BY_CREAT: made.fd = creat(path, 0600); break;
    case FILE_BY_FOPEN:
        made.file = fopen(path, "w+");
        made.fd = made.file ? fileno(made.file) : -1;
        break;
    case FILE_BY_MKSTEMP:
        made.fd = mkstemp(template);
        unlink(template);
        break;
    case FILE_BY_SYSCALL: made.fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600); break;
    case MEMFD: made.fd = memfd_create("memory", 0); break;
    case A_PIPE:
        if (pipe(fds) == 0) made.fd = fds[0], made.other = fds[1];
        break;
    case A_PAIR:
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0) made.fd = fds[0], made.other = fds[1];
        break;
    case AN_EVENT: made.fd = eventfd(0, 0); break;
    case A_COPY: case A_COPY_BY_FCNTL: case A_COPY_BY_SYSCALL: case A_PASSED_ONE:
        made.fd = copied(thing, &made.other, random);
        break;
    case AN_ACCEPTED_ONE: made.fd = accepted(&made.other); break;
    default: made.fd = connect_to(!endpoint_is_tcp, 0);
    }
    CHECK(made.fd >= 0, "%s cannot be made: errno %d", names_of_things[thing], errno);
    return made;
}

/* What is written to it arrives there, and what is there can be read. */
static void use(enum thing thing, struct made made, struct random *random) {
    static const char text[] = "text of another owner";
    char got[64] = {0};
    size_t length = sizeof text;
    uint64_t five = 5;
    switch (thing) {
    case A_PIPE:
        CHECK(raw(SYS_write, made.other, text, length) == (long)length, "pipe");
        break;
    case A_PAIR:
    case AN_ACCEPTED_ONE:
        CHECK(write_by(any_way_to_write(random, 0), made.fd, text, length, 0, random) == (long)length,
              "write to %s: errno %d", names_of_things[thing], errno);
        CHECK(raw(SYS_recvfrom, made.other, got, sizeof got, 0, NULL, NULL) == (long)length
              && memcmp(got, text, length) == 0, "what was written to %s is not there", names_of_things[thing]);
        CHECK(raw(SYS_write, made.other, text, length) == (long)length, "pair");
        break;
    case AN_EVENT:
        CHECK(CALL(write(made.fd, &five, 8)) == 8, "write to an eventfd: errno %d", errno);
        CHECK(raw(SYS_read, made.fd, got, 8) == 8 && got[0] == 5, "an eventfd that was written to");
        return;
    case A_CONNECTED_ONE:
        CHECK(write_by(any_way_to_write(random, 0), made.fd, "*1\r\n$4\r\nPING\r\n", 14, 0, random) == 14,
              "write: errno %d", errno);
        CHECK(raw(SYS_recvfrom, made.fd, got, sizeof got, 0, NULL, NULL) == 7 && memcmp(got, "+PONG\r\n", 7) == 0,
              "no reply elsewhere");
        return;
    default: {
        int there = made.other >= 0 ? made.other : made.fd;
        CHECK(write_by(any_way_to_write_a_file(random), made.fd, text, length, 0, random) == (long)length,
              "write to %s: errno %d", names_of_things[thing], errno);
        if (thing == FILE_BY_CREAT) return;
        CHECK(raw(SYS_pread64, there, got, sizeof got, 0) == (long)length && memcmp(got, text, length) == 0,
              "what was written to %s is not there", names_of_things[thing]);
        raw(SYS_lseek, made.fd, 0, SEEK_SET);
    }
    }
    memset(got, 0, sizeof got);
    struct pollfd entry = {.fd = made.fd, .events = POLLIN};
    CHECK(CALL(poll(&entry, 1, -1)) == 1 && entry.revents == POLLIN || has_timer, "poll: %#x", entry.revents);
    CHECK(read_by(any_way_to_read_a_file(random), made.fd, got, sizeof got, 0, random) == (long)length
          && memcmp(got, text, length) == 0, "read of %s", names_of_things[thing]);
}

static int lowest_free(void) {
    int fd = raw(SYS_openat, AT_FDCWD, "/", O_RDONLY);
    raw(SYS_close, fd);
    return fd;
}

void use_number_again(struct random *random) {
    struct connection *c = any_connection(random);
    enum thing thing = below(random, THINGS);
    unsigned way = once_in(random, 3) ? CLOSED_UNSEEN : any_way_to_close(random);
    int count = 0;
    struct made all[32];
    if (!c) return;
    int fd = c->fds[0];
    while (c->names > 1) {
        /* The first one goes last. */
        int last = c->fds[--c->names];
        number_is_closed(c, last);
        close_by(1 + any_way_to_close(random) % 4, last, random);
    }
    close_all(c, way, random);
    /* All lower numbers are taken first. */
    int is_ours = 0;
    while (count < 32 && lowest_free() <= fd && !is_ours) {
        all[count] = make(thing, random);
        is_ours = all[count].fd == fd;
        say("%d, which was c%d: %s", all[count].fd, (int)c->generator.id, names_of_things[thing]);
        use(thing, all[count++], random);
    }
    wait_for_end(c);
    while (count-- > 0) {
        if (all[count].file) fclose(all[count].file);
        else close_by(1 + any_way_to_close(random) % 5, all[count].fd, random);
        if (all[count].other >= 0) CALL(close(all[count].other));
    }
}
