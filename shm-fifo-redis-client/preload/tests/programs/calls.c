/* Every way in which a program may talk to a server, on one connection each.
 * The same is seen with and without the preloaded library. */
#include "talk.h"

/* ---- reading and writing ---- */

static void reads(void) {
    int fd = moved_connection();
    char buffer[64];
    for (int round = 0; round < 3; round++) {
        send_ping(fd);
        CHECK(read(fd, buffer, 3) == 3 && memcmp(buffer, "+PO", 3) == 0);
        CHECK(read(fd, buffer, sizeof buffer) == 4 && memcmp(buffer, "NG\r\n", 4) == 0);
        send_ping(fd);
        CHECK(recv(fd, buffer, PONG_LENGTH, MSG_WAITALL) == PONG_LENGTH);
        send_ping(fd);
        CHECK(recvfrom(fd, buffer, sizeof buffer, 0, NULL, NULL) == PONG_LENGTH);
        send_ping(fd);
        char a[2], b[3], c[40];
        struct iovec spans[] = {{a, 2}, {b, 3}, {c, 40}};
        CHECK(readv(fd, spans, 3) == PONG_LENGTH);
        CHECK(memcmp(a, "+P", 2) == 0 && memcmp(b, "ONG", 3) == 0 && memcmp(c, "\r\n", 2) == 0);
        send_ping(fd);
        char control[64];
        struct msghdr message = {.msg_iov = spans, .msg_iovlen = 3, .msg_control = control,
                                 .msg_controllen = sizeof control};
        CHECK(recvmsg(fd, &message, 0) == PONG_LENGTH);
        CHECK(message.msg_controllen == 0 && message.msg_flags == 0);
    }
    close(fd);
}

static void peeks(void) {
    int fd = moved_connection();
    char buffer[64];
    send_ping(fd);
    wait_readable(fd);
    CHECK(recv(fd, buffer, sizeof buffer, MSG_PEEK) == PONG_LENGTH);
    CHECK(recv(fd, buffer, 1, MSG_PEEK) == 1 && buffer[0] == '+');
    int available = 0;
    CHECK(ioctl(fd, FIONREAD, &available) == 0 && available == PONG_LENGTH);
    read_pong(fd);
    CHECK(ioctl(fd, FIONREAD, &available) == 0 && available == 0);
    CHECK(recv(fd, buffer, sizeof buffer, MSG_PEEK | MSG_DONTWAIT) == -1 && errno == EAGAIN);
    close(fd);
}

static void writes(void) {
    int fd = moved_connection();
    for (int round = 0; round < 3; round++) {
        CHECK(write(fd, PING, PING_LENGTH) == PING_LENGTH);
        read_pong(fd);
        struct iovec spans[] = {{(void *)PING, 5}, {(void *)(PING + 5), PING_LENGTH - 5}};
        CHECK(writev(fd, spans, 2) == PING_LENGTH);
        read_pong(fd);
        CHECK(sendto(fd, PING, PING_LENGTH, MSG_DONTWAIT, NULL, 0) == PING_LENGTH);
        read_pong(fd);
        struct msghdr message = {.msg_iov = spans, .msg_iovlen = 2};
        CHECK(sendmsg(fd, &message, MSG_NOSIGNAL) == PING_LENGTH);
        read_pong(fd);
        CHECK(write(fd, PING, 0) == 0);
    }
    close(fd);
}

static void errno_is_kept(void) {
    int fd = moved_connection();
    errno = 77;
    send_ping(fd);
    read_pong(fd);
    CHECK(errno == 77);
    close(fd);
    CHECK(read(fd, &fd, 1) == -1 && errno == EBADF);
    CHECK(write(-1, PING, 1) == -1 && errno == EBADF);
}

/* A value much larger than any ring, both ways. */
static void large_values(void) {
    enum { SIZE = 3000000 };
    int fd = moved_connection();
    char *value = malloc(SIZE), *copy = malloc(SIZE + 64);
    for (int i = 0; i < SIZE; i++) value[i] = (char)(i * 31 + i / 251);
    char head[64];
    int length = sprintf(head, "*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n", SIZE);
    CHECK(send(fd, head, length, 0) == length);
    CHECK(send(fd, value, SIZE, 0) == SIZE);
    CHECK(send(fd, "\r\n", 2, 0) == 2);
    CHECK(recv(fd, copy, 5, MSG_WAITALL) == 5 && memcmp(copy, "+OK\r\n", 5) == 0);
    CHECK(send(fd, "*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n", 24, 0) == 24);
    int extra = sprintf(head, "$%d\r\n", SIZE);
    CHECK(recv(fd, copy, extra + SIZE + 2, MSG_WAITALL) == extra + SIZE + 2);
    CHECK(memcmp(copy + extra, value, SIZE) == 0);
    free(value);
    free(copy);
    settle(fd);
    close(fd);
}

/* ---- modes and timeouts ---- */

static void nonblocking(void) {
    int fd = moved_connection();
    char buffer[64];
    set_nonblocking(fd, 1);
    CHECK(read(fd, buffer, sizeof buffer) == -1 && errno == EAGAIN);
    send_ping(fd);
    wait_readable(fd);
    read_pong(fd);
    set_nonblocking(fd, 0);
    settle(fd);
    int on = 1, off = 0;
    CHECK(ioctl(fd, FIONBIO, &on) == 0);
    CHECK(recv(fd, buffer, sizeof buffer, 0) == -1 && errno == EAGAIN);
    CHECK(ioctl(fd, FIONBIO, &off) == 0);
    settle(fd);
    CHECK(recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    close(fd);
}

/* Born non-blocking: the move itself must not block it. */
static void nonblocking_from_the_start(void) {
    int fd = open_connection();
    set_nonblocking(fd, 1);
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        wait_readable(fd);
        read_pong(fd);
    }
    close(fd);
}

static void timeouts(void) {
    int fd = moved_connection();
    char buffer[64];
    struct timeval time = {.tv_usec = 30000};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0);
    CHECK(recv(fd, buffer, sizeof buffer, 0) == -1 && errno == EAGAIN);
    settle(fd);
    CHECK(read(fd, buffer, sizeof buffer) == -1 && errno == EAGAIN);
    close(fd);
}

static void on_alarm(int signal) { (void)signal; }

static void signals(void) {
    int fd = moved_connection();
    char buffer[64];
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value.tv_usec = 30000, .it_interval.tv_usec = 30000};
    setitimer(ITIMER_REAL, &timer, NULL);
    CHECK(read(fd, buffer, sizeof buffer) == -1 && errno == EINTR);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    CHECK(poll(&entry, 1, -1) == -1 && errno == EINTR);
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
    settle(fd);
    close(fd);
}

/* ---- readiness ---- */

static void polls(void) {
    int fd = moved_connection(), other[2];
    CHECK(pipe(other) == 0);
    struct pollfd entries[] = {{.fd = fd, .events = POLLIN | POLLOUT},
                               {.fd = other[0], .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    CHECK(poll(entries, 3, 0) == 1 && entries[0].revents == POLLOUT && entries[1].revents == 0);
    entries[0].events = POLLIN | POLLRDHUP;
    CHECK(poll(entries, 3, 0) == 0 && entries[0].revents == 0);
    CHECK(poll(entries, 3, 20) == 0);
    struct timespec time = {.tv_nsec = 20000000};
    sigset_t mask;
    sigemptyset(&mask);
    CHECK(ppoll(entries, 3, &time, &mask) == 0);
    for (int round = 0; round < 20; round++) {
        send_ping(fd);
        CHECK(ppoll(entries, 3, NULL, &mask) == 1 && entries[0].revents == POLLIN);
        CHECK(poll(entries, 1, 0) == 1);
        read_pong(fd);
        CHECK(poll(entries, 3, 0) == 0);
        CHECK(write(other[1], "x", 1) == 1);
        CHECK(poll(entries, 3, -1) == 1 && entries[1].revents == POLLIN);
        send_ping(fd);
        wait_readable(fd);
        CHECK(poll(entries, 3, -1) == 2);
        char byte;
        CHECK(read(other[0], &byte, 1) == 1);
        read_pong(fd);
    }
    close(fd);
}

static void selects(void) {
    int fd = moved_connection(), other[2];
    CHECK(pipe(other) == 0);
    fd_set readable, writable;
    int count = (fd > other[1] ? fd : other[1]) + 1;
    for (int round = 0; round < 20; round++) {
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        FD_SET(other[0], &readable);
        FD_ZERO(&writable);
        struct timeval time = {.tv_usec = 1000};
        CHECK(select(count, &readable, NULL, NULL, &time) == 0 && !FD_ISSET(fd, &readable));
        FD_SET(fd, &writable);
        CHECK(select(count, NULL, &writable, NULL, NULL) == 1 && FD_ISSET(fd, &writable));
        send_ping(fd);
        FD_SET(fd, &readable);
        FD_SET(other[0], &readable);
        CHECK(pselect(count, &readable, NULL, NULL, NULL, NULL) == 1);
        CHECK(FD_ISSET(fd, &readable) && !FD_ISSET(other[0], &readable));
        read_pong(fd);
    }
    close(fd);
}

static int watch(int epfd, int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.u64 = 0xFEEDFACE00000000 + events};
    return epoll_ctl(epfd, operation, fd, &event);
}

static void expect_event(int epfd, int timeout, unsigned events, unsigned asked) {
    struct epoll_event event[4];
    int found = epoll_wait(epfd, event, 4, timeout);
    if (events == 0) {
        CHECK(found == 0);
        return;
    }
    CHECK(found == 1);
    CHECK(event[0].events == events);
    CHECK(event[0].data.u64 == 0xFEEDFACE00000000 + asked);
}

static void epoll_level(void) {
    int fd = open_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    unsigned asked = EPOLLIN | EPOLLRDHUP;
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, asked) == 0);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        expect_event(epfd, -1, EPOLLIN, asked);
        expect_event(epfd, -1, EPOLLIN, asked);
        read_pong(fd);
        expect_event(epfd, 0, 0, asked);
    }
    expect_event(epfd, 20, 0, asked);
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, asked) == -1 && errno == EEXIST);
    CHECK(watch(epfd, EPOLL_CTL_MOD, fd, EPOLLOUT) == 0);
    expect_event(epfd, -1, EPOLLOUT, EPOLLOUT);
    CHECK(watch(epfd, EPOLL_CTL_DEL, fd, 0) == 0);
    CHECK(watch(epfd, EPOLL_CTL_DEL, fd, 0) == -1 && errno == ENOENT);
    CHECK(watch(epfd, EPOLL_CTL_MOD, fd, asked) == -1 && errno == ENOENT);
    send_ping(fd);
    expect_event(epfd, 20, 0, asked);
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, asked) == 0);
    struct epoll_event event;
    sigset_t mask;
    sigemptyset(&mask);
    CHECK(epoll_pwait(epfd, &event, 1, -1, &mask) == 1);
    read_pong(fd);
    close(fd);
    expect_event(epfd, 0, 0, asked);
    close(epfd);
}

static void epoll_edge(void) {
    int fd = moved_connection(), epfd = epoll_create1(0);
    /* Without EPOLLOUT: when a socket has more space than before is its own affair. */
    unsigned asked = EPOLLIN | EPOLLRDHUP | EPOLLET;
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, asked) == 0);
    expect_event(epfd, 20, 0, asked);
    for (int i = 0; i < 20; i++) {
        send_ping(fd);
        expect_event(epfd, -1, EPOLLIN, asked);
        expect_event(epfd, 5, 0, asked);
        read_pong(fd);
        expect_event(epfd, 0, 0, asked);
    }
    /* What was left unread is news again with what follows it. */
    send_ping(fd);
    expect_event(epfd, -1, EPOLLIN, asked);
    send_ping(fd);
    expect_event(epfd, -1, EPOLLIN, asked);
    read_pong(fd);
    read_pong(fd);
    asked |= EPOLLOUT;
    CHECK(watch(epfd, EPOLL_CTL_MOD, fd, asked) == 0);
    expect_event(epfd, -1, EPOLLOUT, asked);
    expect_event(epfd, 20, 0, asked);
    close(fd);
    close(epfd);
}

static void epoll_one_shot(void) {
    int fd = open_connection(), epfd = epoll_create1(0);
    unsigned asked = EPOLLIN | EPOLLONESHOT;
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, asked) == 0);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        expect_event(epfd, -1, EPOLLIN, asked);
        expect_event(epfd, 1, 0, asked);
        read_pong(fd);
        CHECK(watch(epfd, EPOLL_CTL_MOD, fd, asked) == 0);
    }
    close(fd);
    close(epfd);
}

static int shared_epfd, shared_fd;
static sem_t answered;

static void *waiter(void *unused) {
    (void)unused;
    for (int i = 0; i < 50; i++) {
        struct epoll_event event;
        CHECK(epoll_wait(shared_epfd, &event, 1, -1) == 1);
        read_pong(shared_fd);
        CHECK(watch(shared_epfd, EPOLL_CTL_DEL, shared_fd, 0) == 0);
        CHECK(sem_post(&answered) == 0);
    }
    return NULL;
}

/* A thread sleeps in an epoll instance; others tell it what to wait for. */
static void epoll_from_another_thread(void) {
    CHECK(sem_init(&answered, 0, 0) == 0);
    shared_fd = moved_connection();
    shared_epfd = epoll_create1(0);
    int idle = moved_connection();
    CHECK(watch(shared_epfd, EPOLL_CTL_ADD, idle, EPOLLIN) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, waiter, NULL) == 0);
    for (int i = 0; i < 50; i++) {
        if (i % 2) usleep(2000);
        CHECK(watch(shared_epfd, EPOLL_CTL_ADD, shared_fd, EPOLLIN) == 0);
        send_ping(shared_fd);
        CHECK(sem_wait(&answered) == 0);
    }
    pthread_join(thread, NULL);
    close(shared_fd);
    close(shared_epfd);
}

/* Waiting for an epoll instance itself. */
static void epoll_nested(void) {
    int fd = moved_connection(), inner = epoll_create1(0), outer = epoll_create1(0), early = epoll_create1(0);
    CHECK(watch(outer, EPOLL_CTL_ADD, early, EPOLLIN) == 0);
    CHECK(watch(inner, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
    int second = open_connection();
    CHECK(watch(early, EPOLL_CTL_ADD, second, EPOLLIN) == 0);
    struct pollfd entry = {.fd = inner, .events = POLLIN};
    for (int i = 0; i < 40; i++) {
        CHECK(poll(&entry, 1, 0) == 0);
        send_ping(fd);
        CHECK(poll(&entry, 1, -1) == 1 && entry.revents == POLLIN);
        expect_event(inner, 0, EPOLLIN, EPOLLIN);
        read_pong(fd);
        send_ping(second);
        struct epoll_event event;
        CHECK(epoll_wait(outer, &event, 1, -1) == 1);
        expect_event(early, 0, EPOLLIN, EPOLLIN);
        read_pong(second);
    }
    close(fd);
    close(second);
}

/* ---- file descriptors ---- */

static void duplicates(void) {
    int fd = moved_connection();
    int copies[] = {dup(fd), fcntl(fd, F_DUPFD, 100), fcntl(fd, F_DUPFD_CLOEXEC, 200),
                    dup2(fd, 300), dup3(fd, 301, O_CLOEXEC)};
    for (int i = 0; i < 5; i++) {
        CHECK(copies[i] >= 0);
        send_ping(copies[i]);
        read_pong(i ? copies[i - 1] : fd);
    }
    close(fd);
    for (int i = 0; i < 5; i++) {
        settle(copies[i]);
        close(copies[i]);
    }
    /* One takes the place of another. */
    int one = moved_connection(), other = moved_connection();
    CHECK(dup2(one, other) == other);
    close(one);
    settle(other);
    close(other);
    int last = moved_connection();
    CHECK(close_range(last, last, 0) == 0);
    CHECK(write(last, PING, 1) == -1 && errno == EBADF);
}

static void shutdowns(void) {
    char buffer[64];
    int fd = moved_connection();
    CHECK(shutdown(fd, SHUT_RDWR) == 0);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
    CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    close(fd);
    fd = moved_connection();
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
    close(fd);
}

/* The server ends it: its last words are read before the end. */
static void ends(void) {
    char buffer[64];
    int fd = moved_connection();
    CHECK(send(fd, "*1\r\n$4\r\nQUIT\r\n", 14, 0) == 14);
    struct pollfd entry = {.fd = fd, .events = POLLIN | POLLRDHUP};
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLIN);
    CHECK(recv(fd, buffer, 5, MSG_WAITALL) == 5 && memcmp(buffer, "+OK\r\n", 5) == 0);
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLRDHUP);
    CHECK(read(fd, buffer, sizeof buffer) == 0);
    int epfd = epoll_create1(0);
    CHECK(watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.events & EPOLLIN);
    signal(SIGPIPE, SIG_IGN);
    CHECK(write(fd, PING, PING_LENGTH) == -1 && errno == EPIPE);
    close(fd);
}

/* ---- processes and threads ---- */

static int exit_code(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void forks(void) {
    int fd = moved_connection();
    pid_t child = fork();
    if (child == 0) {
        /* The parent's connection is broken here, if it has moved; closing it harms
         * nobody. Its own work. */
        if (getenv("LD_PRELOAD")) {
            char buffer[64];
            CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EPIPE);
            CHECK(recv(fd, buffer, sizeof buffer, 0) == -1 && errno == EPIPE);
        }
        close(fd);
        int own = moved_connection();
        settle(own);
        _exit(0);
    }
    settle(fd);
    CHECK(exit_code(child) == 0);
    settle(fd);
    child = vfork();
    if (child == 0) {
        close(fd);
        execlp("true", "true", NULL);
        _exit(127);
    }
    CHECK(exit_code(child) == 0);
    settle(fd);
    close(fd);
}

static void *talker(void *unused) {
    int fd = open_connection();
    for (int i = 0; i < 20; i++) settle(fd);
    close(fd);
    return unused;
}

static void *reader(void *connection) {
    for (int i = 0; i < 2000; i++) read_pong(*(int *)connection);
    return NULL;
}

/* Threads of their own; then one that reads while another writes. */
static void threads(void) {
    pthread_t thread[8];
    for (int i = 0; i < 8; i++) CHECK(pthread_create(&thread[i], NULL, talker, NULL) == 0);
    for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
    int fd = moved_connection();
    CHECK(pthread_create(&thread[0], NULL, reader, &fd) == 0);
    for (int i = 0; i < 2000; i++) send_ping(fd);
    pthread_join(thread[0], NULL);
    close(fd);
}

/* The whole pipeline is written before anything is read. */
static void pipelines(void) {
    int fd = moved_connection();
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 1000; i++) send_ping(fd);
        for (int i = 0; i < 1000; i++) read_pong(fd);
    }
    close(fd);
}

static void cycles(void) {
    const char *count = getenv("CYCLES");
    for (int i = count ? atoi(count) : 10000; i > 0; i--) {
        int fd = open_connection();
        for (int j = 0; j < 4; j++) {
            send_ping(fd);
            read_pong(fd);
        }
        close(fd);
    }
    /* The lowest free number tells whether file descriptors leaked. */
    int fd = dup(0);
    CHECK(fd == 3);
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "VmRSS:", 6) == 0) CHECK(atol(line + 6) < 50000);
    fclose(status);
}

static const struct test TESTS[] = {
    TEST(reads), TEST(peeks), TEST(writes), TEST(errno_is_kept), TEST(large_values),
    TEST(nonblocking), TEST(nonblocking_from_the_start), TEST(timeouts), TEST(signals),
    TEST(polls), TEST(selects), TEST(epoll_level), TEST(epoll_edge), TEST(epoll_one_shot),
    TEST(epoll_from_another_thread), TEST(epoll_nested), TEST(duplicates), TEST(shutdowns),
    TEST(ends), TEST(forks), TEST(threads), TEST(pipelines), TEST(cycles),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
