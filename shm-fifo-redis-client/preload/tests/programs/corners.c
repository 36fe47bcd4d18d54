/* What programs do seldom, or at an awkward moment: while a connection moves, while
 * another thread closes it, while its ring is full.
 * The same is seen with and without the preloaded library. */
#include "talk.h"

#include <spawn.h>
#include <sys/syscall.h>

extern char **environ;

static void nap(long us) {
    struct timespec time = {.tv_nsec = us * 1000};
    nanosleep(&time, NULL);
}

/* ---- the moment of the move ---- */

/* Nothing is readable while no reply is outstanding, whatever the mover says meanwhile. */
static void quiet_between_commands(void) {
    int fd = open_connection();
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        read_pong(fd);
        for (int look = 0; look < 50; look++) {
            struct pollfd entry = {.fd = fd, .events = POLLIN};
            CHECK(poll(&entry, 1, 0) == 0);
            char byte;
            CHECK(recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -1 && errno == EAGAIN);
        }
    }
    close(fd);
}

/* What is written is executed although the program closes and never reads. */
static void last_words_before_close(void) {
    int watcher = moved_connection();
    for (int round = 0; round < 200; round++) {
        int fd = open_connection();
        for (int i = 0; i < round % 40; i++) {
            send_ping(fd);
            read_pong(fd);
        }
        CHECK(send(fd, "INCR last\r\n", 11, 0) == 11);
        close(fd);
    }
    while (ask_number(watcher, "EXISTS last") == 0 || ask_number(watcher, "INCRBY last 0") < 200) nap(1000);
    close(watcher);
}

/* As nc does: no more is written, but what is answered is read, to the end. */
static void last_words_before_shutdown(void) {
    for (int round = 0; round < 200; round++) {
        int fd = open_connection();
        for (int i = 0; i < round % 40; i++) {
            send_ping(fd);
            read_pong(fd);
        }
        send_ping(fd);
        CHECK(shutdown(fd, SHUT_WR) == 0);
        /* The server may notice the end before it answers: as on any socket. */
        char buffer[64];
        ssize_t count = recv(fd, buffer, PONG_LENGTH, MSG_WAITALL);
        CHECK(count == PONG_LENGTH || count == 0);
        CHECK(recv(fd, buffer, sizeof buffer, 0) == 0);
        close(fd);
    }
}

/* It has asked another server, which refuses, with the same user. */
static void after_another_server(void) {
    const char *server = path;
    path = getenv("ANOTHER_SERVER");
    int refused = moved_connection();
    path = server;
    int fd = moved_connection();
    settle(refused);
    settle(fd);
    close(refused);
    close(fd);
}

static void one_byte_at_a_time(void) {
    int fd = open_connection();
    for (int i = 0; i < 40; i++) {
        for (int j = 0; j < PING_LENGTH; j++) CHECK(write(fd, PING + j, 1) == 1);
        for (int j = 0; j < PONG_LENGTH; j++) {
            char byte;
            CHECK(read(fd, &byte, 1) == 1 && byte == PONG[j]);
        }
    }
    close(fd);
}

static void inline_commands(void) {
    int fd = open_connection();
    for (int i = 0; i < 40; i++) {
        CHECK(write(fd, "PING\r\n", 6) == 6);
        read_pong(fd);
    }
    close(fd);
}

/* Five are sent for each that is read, so it is never quiet until the end. */
static void outstanding_pipelines(void) {
    int fd = open_connection();
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 5; i++) send_ping(fd);
        for (int i = 0; i < 4; i++) read_pong(fd);
    }
    for (int i = 0; i < 30; i++) read_pong(fd);
    settle(fd);
    close(fd);
}

static volatile int stop;

static void *writer_of_keys(void *unused) {
    int fd = moved_connection();
    while (!stop) {
        CHECK(send(fd, "SET tracked 1\r\n", 15, 0) == 15);
        char answer[5];
        CHECK(recv(fd, answer, 5, MSG_WAITALL) == 5);
    }
    close(fd);
    return unused;
}

/* Pushes come at any moment, also while connections move: none is lost or cut. */
static void pushes(void) {
    static const char PUSH[] = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntracked\r\n";
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, writer_of_keys, NULL) == 0);
    for (int round = 0; round < 50; round++) {
        int fd = open_connection();
        char buffer[4096];
        CHECK(write(fd, "HELLO 3\r\n", 9) == 9);
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        do {
            CHECK(recv(fd, buffer, sizeof buffer, 0) > 0);
        } while (poll(&entry, 1, 50) == 1);
        CHECK(write(fd, "CLIENT TRACKING ON BCAST\r\n", 26) == 26);
        CHECK(recv(fd, buffer, 5, MSG_WAITALL) == 5 && memcmp(buffer, "+OK\r\n", 5) == 0);
        for (int pongs = 0; pongs < 40; pongs++) {
            send_ping(fd);
            for (;;) {
                CHECK(recv(fd, buffer, 1, 0) == 1);
                const char *expected = buffer[0] == '+' ? PONG : PUSH;
                size_t length = strlen(expected);
                CHECK(recv(fd, buffer + 1, length - 1, MSG_WAITALL) == (ssize_t)length - 1);
                CHECK(memcmp(buffer, expected, length) == 0);
                if (expected == PONG) break;
            }
        }
        close(fd);
    }
    stop = 1;
    pthread_join(thread, NULL);
}

/* Commands that are not answered: nobody can say whether a reply is outstanding. */
static void silenced_replies(void) {
    int fd = open_connection();
    CHECK(write(fd, "CLIENT REPLY OFF\r\n", 18) == 18);
    for (int i = 0; i < 40; i++) send_ping(fd);
    CHECK(write(fd, "CLIENT REPLY ON\r\n", 17) == 17);
    char answer[5];
    CHECK(recv(fd, answer, 5, MSG_WAITALL) == 5 && memcmp(answer, "+OK\r\n", 5) == 0);
    settle(fd);
    close(fd);
}

/* ---- full rings ---- */

enum { MANY = 40000 };

/* Writes and reads as an event loop does, waiting for either by `wait`. */
static void flood(void (*wait)(int fd, int writes)) {
    int fd = moved_connection(), other = moved_connection();
    set_nonblocking(fd, 1);
    occupy_server(other, 100);
    size_t sent = 0, received = 0, all = (size_t)MANY * PING_LENGTH;
    int was_full = 0;
    while (received < (size_t)MANY * PONG_LENGTH) {
        while (sent < all) {
            size_t at = sent % PING_LENGTH;
            ssize_t count = send(fd, PING + at, PING_LENGTH - at, MSG_NOSIGNAL);
            if (count < 0) {
                CHECK(errno == EAGAIN);
                was_full = 1;
                break;
            }
            sent += count;
        }
        char buffer[1000];
        ssize_t count;
        while ((count = recv(fd, buffer, sizeof buffer, 0)) > 0) received += count;
        CHECK(count == -1 && errno == EAGAIN);
        if (received < (size_t)MANY * PONG_LENGTH) wait(fd, sent < all);
    }
    CHECK(was_full);
    close(fd);
    close(other);
}

static void by_poll(int fd, int writes) {
    struct pollfd entry = {.fd = fd, .events = POLLIN | (writes ? POLLOUT : 0)};
    CHECK(poll(&entry, 1, -1) == 1);
}

static void by_select(int fd, int writes) {
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(fd, &readable);
    if (writes) FD_SET(fd, &writable);
    CHECK(select(fd + 1, &readable, &writable, NULL, NULL) > 0);
}

static int flood_epfd = -1;

static void by_epoll(int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (flood_epfd < 0) flood_epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(flood_epfd, EPOLL_CTL_MOD, fd, &event) != 0)
        CHECK(errno == ENOENT && epoll_ctl(flood_epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    CHECK(epoll_wait(flood_epfd, &event, 1, -1) == 1 && event.data.fd == fd);
}

static void by_level(int fd, int writes) { by_epoll(fd, EPOLLIN | (writes ? EPOLLOUT : 0)); }
static void by_one_shot(int fd, int writes) { by_epoll(fd, EPOLLONESHOT | EPOLLIN | (writes ? EPOLLOUT : 0)); }

/* Registered once: every later report is news. */
static void by_edge(int fd, int writes) {
    (void)writes;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
    if (flood_epfd < 0) {
        flood_epfd = epoll_create1(EPOLL_CLOEXEC);
        CHECK(epoll_ctl(flood_epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    }
    CHECK(epoll_wait(flood_epfd, &event, 1, -1) == 1 && event.data.fd == fd);
}

static void full_ring_and_poll(void) { flood(by_poll); }
static void full_ring_and_select(void) { flood(by_select); }
static void full_ring_and_epoll_level(void) { flood(by_level); }
static void full_ring_and_epoll_edge(void) { flood(by_edge); }
static void full_ring_and_epoll_one_shot(void) { flood(by_one_shot); }

/* ---- signals ---- */

static volatile sig_atomic_t alarms;
static void on_alarm(int signal) { (void)signal; alarms++; }

static void ring_every_5_ms(int flags) {
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {.it_value.tv_usec = 5000, .it_interval.tv_usec = 5000};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Handlers that restart calls are invisible to blocking ones. */
static void restarted_calls(void) {
    enum { SIZE = 1000000 };
    int fd = moved_connection(), other = moved_connection();
    char *value = calloc(1, SIZE), head[64], answer[64];
    int length = sprintf(head, "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", SIZE);
    occupy_server(other, 100);
    ring_every_5_ms(SA_RESTART);
    CHECK(send(fd, head, length, 0) == length);
    for (ssize_t sent, left = SIZE; left > 0; left -= sent) CHECK((sent = send(fd, value, left, 0)) > 0);
    CHECK(send(fd, "\r\n", 2, 0) == 2);
    CHECK(recv(fd, answer, 5, MSG_WAITALL) == 5);
    occupy_server(other, 100);
    send_ping(fd);
    CHECK(recv(fd, answer, PONG_LENGTH, 0) == PONG_LENGTH);
    CHECK(alarms > 5);
    free(value);
    close(fd);
}

/* ---- threads ---- */

static volatile pid_t blocked;

static void *blocked_reader(void *connection) {
    char buffer[64];
    blocked = gettid();
    return (void *)recv(*(int *)connection, buffer, sizeof buffer, 0);
}

/* Until that thread sleeps in the kernel's recvfrom. */
static void wait_until_blocked(void) {
    char name[64], line[32];
    do {
        sprintf(name, "/proc/self/task/%d/syscall", blocked);
        FILE *file = fopen(name, "r");
        if (!file || !fgets(line, sizeof line, file)) line[0] = 0;
        if (file) fclose(file);
    } while (atoi(line) != SYS_recvfrom);
}

/* A thread sleeps in recv, another shuts the connection down and closes it, and its
 * number belongs to a new one at once. */
static void numbers_are_used_again(void) {
    int fd = moved_connection();
    for (int round = 0; round < 300; round++) {
        pthread_t thread;
        int old = fd;
        blocked = 0;
        CHECK(pthread_create(&thread, NULL, blocked_reader, &old) == 0);
        wait_until_blocked();
        CHECK(shutdown(fd, SHUT_RDWR) == 0);
        close(fd);
        fd = open_connection();
        CHECK(fd == old || round == 0);
        settle(fd);
        void *count;
        CHECK(pthread_join(thread, &count) == 0 && count == NULL);
        settle(fd);
    }
    close(fd);
}

/* ---- epoll ---- */

static void add(int epfd, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.u64 = 0xABCD000000000000 + fd};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void expect(int epfd, int fd) {
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
    CHECK(event.events == EPOLLIN && event.data.u64 == 0xABCD000000000000 + (unsigned)fd);
}

static void epoll_exclusive(void) {
    int fd = open_connection(), epfd = epoll_create1(0);
    add(epfd, fd, EPOLLIN | EPOLLEXCLUSIVE);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        expect(epfd, fd);
        read_pong(fd);
        struct epoll_event event;
        CHECK(epoll_wait(epfd, &event, 1, 1) == 0);
    }
    close(fd);
}

/* Room for one event, and a pipe that is always readable: both are told of. */
static void one_event_at_a_time(void) {
    int fd = open_connection(), epfd = epoll_create1(0), other[2];
    CHECK(pipe(other) == 0 && write(other[1], "x", 1) == 1);
    add(epfd, other[0], EPOLLIN);
    add(epfd, fd, EPOLLIN);
    for (int i = 0; i < 200; i++) {
        send_ping(fd);
        int pipes = 0;
        for (;;) {
            struct epoll_event event;
            CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
            if ((int)(event.data.u64 & 0xffff) == fd) break;
            CHECK(pipes++ < 1000000);
        }
        read_pong(fd);
    }
    /* The other one has its turn, too. */
    for (int i = 0; i < 20; i++) {
        send_ping(fd);
        wait_readable(fd);
        int seen = 0;
        for (int look = 0; look < 100000 && seen != 3; look++) {
            struct epoll_event event;
            CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
            seen |= (int)(event.data.u64 & 0xffff) == other[0] ? 1 : 2;
        }
        CHECK(seen == 3);
        read_pong(fd);
    }
    close(fd);
}

/* A name of an epoll instance is closed; the other one goes on. */
static void duplicated_epoll(void) {
    int fd = moved_connection(), epfd = epoll_create1(0);
    add(epfd, fd, EPOLLIN);
    int copy = dup(epfd);
    close(epfd);
    int other = dup(0);
    CHECK(other == epfd);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        expect(copy, fd);
        read_pong(fd);
    }
    int late = open_connection();
    add(copy, late, EPOLLIN);
    for (int i = 0; i < 40; i++) {
        send_ping(late);
        expect(copy, late);
        read_pong(late);
    }
    close(copy);
    close(fd);
}

/* An instance that comes to be watched by another one once it has connections. */
static void nested_later(void) {
    int fd = open_connection(), inner = epoll_create1(0), outer = epoll_create1(0);
    add(inner, fd, EPOLLIN);
    send_ping(fd);
    read_pong(fd);
    add(outer, inner, EPOLLIN);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        expect(outer, inner);
        expect(inner, fd);
        read_pong(fd);
        struct epoll_event event;
        CHECK(epoll_wait(outer, &event, 1, 1) == 0);
    }
    /* One that has moved already is served there, too; and an instance that watches one. */
    int moved = moved_connection(), late = epoll_create1(0);
    add(inner, moved, EPOLLIN);
    settle(moved);
    for (int i = 0; i < 40; i++) {
        send_ping(moved);
        expect(outer, inner);
        expect(inner, moved);
        read_pong(moved);
    }
    CHECK(epoll_ctl(inner, EPOLL_CTL_DEL, moved, NULL) == 0);
    add(late, moved, EPOLLIN);
    add(outer, late, EPOLLIN);
    for (int i = 0; i < 40; i++) {
        send_ping(moved);
        expect(outer, late);
        expect(late, moved);
        read_pong(moved);
    }
}

/* ---- file descriptors ---- */

/* C's files on a socket: their bytes are not seen. */
static void files(void) {
    int fd = open_connection();
    FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
    char line[64];
    for (int i = 0; i < 40; i++) {
        CHECK(fprintf(out, "PING\r\n") == 6 && fflush(out) == 0);
        CHECK(fgets(line, sizeof line, in) && strcmp(line, PONG) == 0);
    }
    /* Mixed with the plain calls. */
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        CHECK(fgets(line, sizeof line, in) && strcmp(line, PONG) == 0);
    }
    fclose(in);
    fclose(out);
}

/* Closed where nobody sees it: what gets the number is none of our business. */
static void closed_behind_our_back(void) {
    int fd = open_connection(), pair[2];
    for (int i = 0; i < 10; i++) {
        send_ping(fd);
        read_pong(fd);
    }
    CHECK(syscall(SYS_close, fd) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pair[0] == fd);
    for (int i = 0; i < 40; i++) {
        char buffer[64];
        send_ping(pair[0]);
        CHECK(read(pair[1], buffer, sizeof buffer) == PING_LENGTH);
        CHECK(write(pair[1], PONG, PONG_LENGTH) == PONG_LENGTH);
        read_pong(pair[0]);
    }
    close(pair[0]);
    close(pair[1]);
    settle(open_connection());
}

static void closes_from(void) {
    int fd = moved_connection();
    closefrom(fd);
    CHECK(write(fd, PING, 1) == -1 && errno == EBADF);
    int other[2];
    CHECK(pipe(other) == 0 && other[0] == fd && write(other[1], "abc", 3) == 3);
    char buffer[8];
    CHECK(read(fd, buffer, sizeof buffer) == 3);
}

/* Children by other ways than fork: none has the connection, all leave it alone. */
static void children(void) {
    int fd = moved_connection(), status;
    for (int i = 0; i < 20; i++) {
        CHECK(system("exit 3") == 3 << 8);
        FILE *child = popen("echo hello", "r");
        char line[64];
        CHECK(fgets(line, sizeof line, child) && strcmp(line, "hello\n") == 0);
        CHECK(pclose(child) == 0);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, 2, fd);
        char *words[] = {"true", NULL};
        pid_t pid;
        CHECK(posix_spawnp(&pid, "true", &actions, NULL, words, environ) == 0);
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
        settle(fd);
    }
    /* A duplicate that was made after the move is closed with the program, too. */
    int copy = dup(fd);
    pid_t pid = fork();
    if (pid == 0) {
        char command[64];
        CHECK(dup2(fd, 77) == 77);
        sprintf(command, "! test -e /proc/self/fd/%d && ! test -e /proc/self/fd/77", copy);
        if (!is_preloaded()) sprintf(command, "true");
        execlp("sh", "sh", "-c", command, NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    settle(copy);
    close(fd);
    close(copy);
}

/* A child that goes on with its parent's epoll instance is told nothing strange. */
static void inherited_epoll(void) {
    int fd = moved_connection(), epfd = epoll_create1(0), go[2];
    CHECK(pipe(go) == 0);
    add(epfd, fd, EPOLLIN);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, 10) == 0);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 50; i++) {
            struct epoll_event events[4];
            int count = epoll_wait(epfd, events, 4, 5);
            for (int j = 0; j < count; j++) CHECK(events[j].data.u64 == 0xABCD000000000000 + (unsigned)fd);
        }
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        send_ping(fd);
        expect(epfd, fd);
        read_pong(fd);
        nap(3000);
    }
    CHECK(status == 0);
    close(fd);
}

/* Linux writes into the timeout how much of it is left; musl keeps that from the program. */
#ifdef __GLIBC__
enum { TELLS_WHAT_IS_LEFT = 1 };
#else
enum { TELLS_WHAT_IS_LEFT = 0 };
#endif

static void selects_of_many(void) {
    int fd = moved_connection();
    int high = fcntl(fd, F_DUPFD, 2000);
    if (high < 0) return; /* not allowed so many */
    unsigned long readable[4096 / 8 / sizeof(long)] = {0};
    unsigned long bit = 1UL << high % 64;
    struct timeval time = {.tv_sec = 100};
    readable[high / 64] = bit;
    send_ping(fd);
    CHECK(select(high + 1, (fd_set *)readable, NULL, NULL, &time) == 1 && readable[high / 64] == bit);
    CHECK((time.tv_sec < 100) == TELLS_WHAT_IS_LEFT);
    read_pong(high);
    time = (struct timeval){.tv_usec = 1000};
    CHECK(select(high + 1, (fd_set *)readable, NULL, NULL, &time) == 0 && readable[high / 64] == 0);
    CHECK(time.tv_sec == 0 && (time.tv_usec == 0) == TELLS_WHAT_IS_LEFT);
    struct pollfd twice[] = {{.fd = fd, .events = POLLIN}, {.fd = -7, .events = POLLIN, .revents = 9},
                             {.fd = fd, .events = POLLOUT}, {.fd = high, .events = POLLIN | POLLOUT}};
    send_ping(fd);
    wait_readable(fd);
    CHECK(poll(twice, 4, -1) == 3 && twice[0].revents == POLLIN && twice[1].revents == 0);
    CHECK(twice[2].revents == POLLOUT && twice[3].revents == (POLLIN | POLLOUT));
    read_pong(fd);
    close(fd);
    close(high);
}

static void odd_flags(void) {
    int fd = moved_connection();
    char buffer[64];
    struct iovec spans[] = {{buffer, 0}, {NULL, 0}, {buffer, 3}, {buffer, 0}, {buffer + 3, 60}};
    for (int i = 0; i < 3; i++) {
        send_ping(fd);
        wait_readable(fd);
        CHECK(readv(fd, spans, 5) == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
        struct iovec out[] = {{NULL, 0}, {(void *)PING, 5}, {NULL, 0}, {(void *)(PING + 5), PING_LENGTH - 5}};
        CHECK(writev(fd, out, 4) == PING_LENGTH);
        read_pong(fd);
        CHECK(read(fd, buffer, 0) == 0);
        send_ping(fd);
        wait_readable(fd);
        struct msghdr message = {.msg_iov = spans, .msg_iovlen = 5};
        for (int look = 0; look < 2; look++) {
            memset(buffer, 0, sizeof buffer);
            CHECK(recvmsg(fd, &message, MSG_PEEK) == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
        }
        read_pong(fd);
        CHECK(recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT) == -1 && errno == EAGAIN);
        volatile int too_few = -1;
        CHECK(readv(fd, spans, too_few) == -1 && errno == EINVAL);
        CHECK(writev(fd, spans, too_few) == -1 && errno == EINVAL);
    }
    close(fd);
}

/* ---- the server is killed; see wait_styles in corners.rs ---- */

static void say_ready(void) {
    puts("waiting");
    fflush(stdout);
}

static void killed_recv(void) {
    int fd = moved_connection();
    char buffer[64];
    say_ready();
    CHECK(recv(fd, buffer, sizeof buffer, MSG_WAITALL) <= 0);
    CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    CHECK(recv(fd, buffer, sizeof buffer, 0) <= 0);
}

static void killed_timeout(void) {
    int fd = moved_connection();
    char buffer[64];
    struct timeval time = {.tv_sec = 1000};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    say_ready();
    CHECK(recv(fd, buffer, sizeof buffer, 0) <= 0);
}

static void killed_poll(void) {
    int fd = moved_connection();
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    say_ready();
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & (POLLIN | POLLHUP | POLLERR));
    entry.events = 0;
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLHUP);
}

static void killed_poll_of_hang_ups(void) {
    int fd = moved_connection();
    struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
    say_ready();
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLRDHUP);
}

static void killed_select(void) {
    int fd = moved_connection();
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(fd, &readable);
    say_ready();
    CHECK(select(fd + 1, &readable, NULL, NULL, NULL) == 1);
}

static void killed_epoll(unsigned events) {
    int fd = moved_connection(), epfd = epoll_create1(0);
    add(epfd, fd, events);
    say_ready();
    struct epoll_event event;
    do {
        CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
    } while (!(event.events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP)));
    char byte;
    CHECK(recv(fd, &byte, 1, 0) <= 0);
}

static void killed_epoll_level(void) { killed_epoll(EPOLLIN); }
static void killed_epoll_edge(void) { killed_epoll(EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET); }
static void killed_epoll_one_shot(void) { killed_epoll(EPOLLIN | EPOLLONESHOT); }
static void killed_epoll_of_nothing(void) { killed_epoll(0); }

/* The ring is full: the server is stopped before it is killed. */
static void killed_send(void) {
    int fd = moved_connection();
    static char zeros[1 << 20];
    say_ready();
    CHECK(getchar() == '\n');
    ssize_t sent;
    while ((sent = send(fd, zeros, sizeof zeros, MSG_NOSIGNAL)) > 0) {}
    CHECK(sent == -1 && (errno == EPIPE || errno == ECONNRESET));
}

static void killed_full_ring(void) {
    int fd = moved_connection();
    static char zeros[1 << 20];
    set_nonblocking(fd, 1);
    say_ready();
    CHECK(getchar() == '\n');
    while (send(fd, zeros, sizeof zeros, MSG_NOSIGNAL) > 0) {}
    CHECK(errno == EAGAIN);
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & (POLLOUT | POLLHUP | POLLERR));
    CHECK(send(fd, zeros, 1, MSG_NOSIGNAL) == -1 && errno != EAGAIN);
}

static const struct test TESTS[] = {
    TEST(quiet_between_commands), TEST(last_words_before_close), TEST(last_words_before_shutdown),
    TEST(after_another_server), TEST(one_byte_at_a_time), TEST(inline_commands), TEST(outstanding_pipelines), TEST(pushes),
    TEST(silenced_replies), TEST(full_ring_and_poll), TEST(full_ring_and_select),
    TEST(full_ring_and_epoll_level), TEST(full_ring_and_epoll_edge), TEST(full_ring_and_epoll_one_shot),
    TEST(restarted_calls), TEST(numbers_are_used_again), TEST(epoll_exclusive),
    TEST(one_event_at_a_time), TEST(duplicated_epoll), TEST(nested_later), TEST(files),
    TEST(closed_behind_our_back), TEST(closes_from), TEST(children), TEST(inherited_epoll),
    TEST(selects_of_many), TEST(odd_flags), TEST(killed_recv), TEST(killed_timeout),
    TEST(killed_poll), TEST(killed_poll_of_hang_ups), TEST(killed_select), TEST(killed_epoll_level),
    TEST(killed_epoll_edge), TEST(killed_epoll_one_shot), TEST(killed_epoll_of_nothing),
    TEST(killed_send), TEST(killed_full_ring),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
