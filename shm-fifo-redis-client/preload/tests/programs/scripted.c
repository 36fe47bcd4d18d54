/* Talks to a server that says what a script says (scripted.rs), while a connection moves. */
#include "talk.h"

#include <setjmp.h>
#include <sys/syscall.h>

static const char PUSH[] = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$7\r\ntra\0ked\r\n";
enum { PUSH_LENGTH = sizeof PUSH - 1 };

/* How often something is done. */
static int times(void) { return atoi(getenv("TIMES")); }

/* Reads all of it, waiting in one way or another. */
static void read_all(int fd, char *buffer, int length, int way) {
    int have = 0;
    while (have < length) {
        if (way == 1) {
            struct pollfd entry = {.fd = fd, .events = POLLIN};
            CHECK(poll(&entry, 1, -1) == 1);
        }
        ssize_t count = recv(fd, buffer + have, length - have, way == 2 ? MSG_WAITALL : 0);
        CHECK(count > 0 && (way != 2 || count == length));
        have += count;
    }
}

/* Reads up to a reply. Returns how many pushes came before. */
static int read_reply(int fd, int way) {
    char buffer[PUSH_LENGTH];
    for (int pushes = 0;; pushes++) {
        read_all(fd, buffer, 1, way);
        const char *expected = buffer[0] == '+' ? PONG : PUSH;
        int length = buffer[0] == '+' ? PONG_LENGTH : PUSH_LENGTH;
        read_all(fd, buffer + 1, length - 1, way);
        CHECK(memcmp(buffer, expected, length) == 0);
        if (expected == PONG) return pushes;
    }
}

/* Nothing is lost or cut, however the server's answers come. */
static void pushes(void) {
    for (int round = 0; round < times(); round++) {
        for (int way = 0; way < 3; way++) {
            int fd = open_connection(), pushes = 0;
            for (int i = 0; i < 24; i++) {
                send_ping(fd);
                pushes += read_reply(fd, way);
            }
            CHECK(pushes == atoi(getenv("PUSHES")));
            close(fd);
        }
    }
}

/* What has come of a push can be read before the rest comes. */
static void halves(void) {
    int fd = open_connection();
    char push[PUSH_LENGTH];
    settle_times(fd, 16);
    read_all(fd, push, PUSH_LENGTH / 2, 0);
    send_ping(fd);
    read_all(fd, push + PUSH_LENGTH / 2, PUSH_LENGTH - PUSH_LENGTH / 2, 0);
    read_pong(fd);
    settle(fd);
    close(fd);
}

/* It ends. */
static void ended_after(int pings) {
    for (int round = 0; round < times(); round++) {
        int fd = open_connection();
        char byte;
        settle_times(fd, pings);
        /* It may have ended by now. */
        send(fd, PING, PING_LENGTH, MSG_NOSIGNAL);
        /* What came may be seen before. */
        ssize_t count;
        while ((count = recv(fd, &byte, 1, 0)) > 0) {}
        CHECK(count == 0 && recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
        /* By TCP one write may go out after the end. */
        send(fd, PING, PING_LENGTH, MSG_NOSIGNAL);
        CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        close(fd);
    }
}

static void ended(void) {
    ended_after(17);
}

/* As soon as the server is asked. */
static void ended_early(void) {
    ended_after(16);
}

/* What comes after reading was ended can still be read, as by TCP. */
static void reading_ended(void) {
    int fd = open_connection(), have = 0;
    char push[PUSH_LENGTH];
    settle_times(fd, 16);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    while (have < PUSH_LENGTH) {
        ssize_t count = recv(fd, push + have, PUSH_LENGTH - have, 0);
        CHECK(count >= 0);
        have += count;
    }
    CHECK(memcmp(push, PUSH, PUSH_LENGTH) == 0);
    close(fd);
}

/* The server has not answered yet, and there is nothing more to be told of the connection: the
 * others are waited for all the same. */
static void deaf(void) {
    int fd = open_connection(), ends[2], instance = epoll_create1(EPOLL_CLOEXEC);
    CHECK(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    settle_times(fd, 17);
    send_ping(fd);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};
    CHECK(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0);
    CHECK(epoll_wait(instance, &event, 1, 0) == 1 && event.data.fd == fd);
    struct pollfd entries[] = {{.fd = instance, .events = POLLIN}, {.fd = ends[0], .events = POLLIN}};
    CHECK(poll(entries, 2, -1) == 1 && entries[1].revents == POLLIN);
    event = (struct epoll_event){.events = EPOLLIN, .data.fd = ends[0]};
    CHECK(epoll_ctl(instance, EPOLL_CTL_ADD, ends[0], &event) == 0);
    CHECK(epoll_wait(instance, &event, 1, -1) == 1 && event.data.fd == ends[0]);
    close(fd);
}

static int lowest_number(void) {
    int fd = dup(0);
    close(fd);
    return fd;
}

/* While it is about to move, the program's numbers are what they would be otherwise, and it
 * may close all that it does not know. */
static void numbers(void) {
    int fd = open_connection();
    char push[PUSH_LENGTH];
    settle_times(fd, 16);
    CHECK(lowest_number() == fd + 1);
    for (int other = fd + 1; other < 1024; other++) close(other);
    send_ping(fd);
    read_all(fd, push, PUSH_LENGTH, 0);
    CHECK(lowest_number() == fd + 1);
    for (int other = fd + 1; other < 1024; other++) close(other);
    closefrom(fd + 1);
    send_ping(fd);
    read_pong(fd);
    read_pong(fd);
    settle(fd);
    CHECK(lowest_number() == fd + 1);
    close(fd);
}

/* A number is closed on exec, or it is not, as the program wants it. */
static void flags(void) {
    int fd = open_connection(), copy;
    CHECK(fcntl(fd, F_SETFD, 0) == 0 && (copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0);
    settle(fd);
    CHECK(fcntl(fd, F_GETFD) == 0 && fcntl(copy, F_GETFD) == FD_CLOEXEC);
    close(fd);
    close(copy);
}

enum { MANY = 100000 };

/* Sends what there is room for, from that byte on. Returns how many bytes have gone. */
static int fill(int fd, int sent) {
    static char pings[MANY * PING_LENGTH];
    for (int i = 0; i < MANY; i++) memcpy(pings + i * PING_LENGTH, PING, PING_LENGTH);
    while (sent < (int)sizeof pings) {
        ssize_t count = send(fd, pings + sent, sizeof pings - sent, MSG_NOSIGNAL);
        if (count < 0) {
            CHECK(errno == EAGAIN);
            break;
        }
        sent += count;
    }
    return sent;
}

/* As much as goes is sent while it is about to move, which is refused then. */
static void much(void) {
    int fd = open_connection(), other = open_connection(), received = 0;
    settle_times(fd, 17);
    set_nonblocking(fd, 1);
    int sent = fill(fd, 0);
    CHECK(sent > 0 && sent < MANY * PING_LENGTH);
    send_ping(other);
    read_pong(other);
    /* It is refused by now, and the server reads nothing: that keeps nobody. */
    char buffer[4096];
    CHECK(recv(fd, buffer, 1, 0) == -1 && errno == EAGAIN);
    sent = fill(fd, sent);
    send_ping(other);
    read_pong(other);
    while (received < MANY * PONG_LENGTH) {
        struct pollfd entry = {.fd = fd, .events = POLLIN | (sent < MANY * PING_LENGTH ? POLLOUT : 0)};
        CHECK(poll(&entry, 1, -1) == 1);
        if (entry.revents & POLLOUT) sent = fill(fd, sent);
        ssize_t count = recv(fd, buffer, sizeof buffer, 0);
        for (ssize_t i = 0; i < count; i++) CHECK(buffer[i] == PONG[received++ % PONG_LENGTH]);
        CHECK(count > 0 || (count == -1 && errno == EAGAIN));
    }
    close(fd);
    close(other);
}

enum { SEVERAL = 2500 };

static void *writes_several(void *connection) {
    static char pings[SEVERAL * PING_LENGTH];
    for (int i = 0; i < SEVERAL; i++) memcpy(pings + i * PING_LENGTH, PING, PING_LENGTH);
    for (size_t sent = 0; sent < sizeof pings;) {
        ssize_t count = send(*(int *)connection, pings + sent, sizeof pings - sent, MSG_NOSIGNAL);
        CHECK(count > 0);
        sent += count;
    }
    return NULL;
}

/* A move is refused while one thread has to wait to write more, and another one reads. */
static void refused_beside(void) {
    for (int round = 0; round < times(); round++) {
        int fd = open_connection();
        pthread_t thread;
        static char pongs[SEVERAL * PONG_LENGTH];
        settle_times(fd, 17);
        CHECK(pthread_create(&thread, NULL, writes_several, &fd) == 0);
        read_all(fd, pongs, sizeof pongs, round % 2);
        for (size_t i = 0; i < sizeof pongs; i++) CHECK(pongs[i] == PONG[i % PONG_LENGTH]);
        CHECK(pthread_join(thread, NULL) == 0);
        close(fd);
    }
}

/* Has the server do something else than to answer pings. */
static void end(int fd) {
    static const char END[] = "*1\r\n$3\r\nEND\r\n";
    CHECK(send(fd, END, sizeof END - 1, MSG_NOSIGNAL) == sizeof END - 1);
}

/* Doorbells that are for nobody do not make a wait longer. */
static void rung(void) {
    int fd = open_connection();
    char byte;
    settle(fd);
    end(fd);
    struct timeval time = {.tv_usec = 200000};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0);
    CHECK(recv(fd, &byte, 1, 0) == -1 && errno == EAGAIN);
    CHECK(recv(fd, &byte, 1, MSG_WAITALL) == -1 && errno == EAGAIN);
    close(fd);
}

/* ---- news ---- */

static void watch(int epfd, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
}

static int has_event(int epfd) {
    struct epoll_event event;
    return epoll_wait(epfd, &event, 1, 0);
}

/* Until `outer` is told that the instance which it watches has something. */
static void wait_by(int outer) {
    struct epoll_event event;
    CHECK(epoll_wait(outer, &event, 1, -1) == 1 && event.events == EPOLLIN);
}

/* It stays on its socket after all, while an instance watches the one that watches it. Of what
 * has been read nothing is told. */
static void nested(void) {
    int fd = open_connection(), inner = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(EPOLL_CLOEXEC);
    char push[PUSH_LENGTH];
    settle_times(fd, 16);
    watch(inner, fd, EPOLLIN);
    watch(outer, inner, EPOLLIN);
    for (int round = 0; round < 2; round++) {
        CHECK(has_event(outer) == 0);
        send_ping(fd);
        wait_by(outer);
        read_all(fd, push, PUSH_LENGTH, 0);
        CHECK(has_event(outer) == 0);
    }
    send_ping(fd);
    wait_by(outer);
    CHECK(has_event(inner) == 1);
    for (int i = 0; i < 3; i++) read_pong(fd);
    CHECK(has_event(outer) == 0 && has_event(inner) == 0);
    close(fd);
}

/* The same for two instances, and there is more to read than what came before the refusal. */
static void nested_twice(void) {
    int fd = open_connection(), inner[2], outer[2];
    char push[PUSH_LENGTH];
    settle_times(fd, 16);
    for (int i = 0; i < 2; i++) {
        inner[i] = epoll_create1(EPOLL_CLOEXEC), outer[i] = epoll_create1(EPOLL_CLOEXEC);
        watch(inner[i], fd, EPOLLIN);
        watch(outer[i], inner[i], EPOLLIN);
    }
    send_ping(fd);
    for (int i = 0; i < 2; i++) {
        wait_by(outer[i]);
        CHECK(has_event(inner[i]) == 1);
    }
    read_all(fd, push, PUSH_LENGTH, 0);
    read_pong(fd);
    for (int i = 0; i < 2; i++) CHECK(has_event(outer[i]) == 0 && has_event(inner[i]) == 0);
    close(fd);
}

static volatile pid_t waits;

static int slept_in;

/* Sleeps until it is told of these events, once. */
static void *sleeps(void *events) {
    struct epoll_event event;
    waits = gettid();
    CHECK(epoll_wait(slept_in, &event, 1, -1) == 1 && event.events == (uintptr_t)events);
    return NULL;
}

static pthread_t asleep_for(unsigned events) {
    pthread_t thread;
    waits = 0;
    CHECK(pthread_create(&thread, NULL, sleeps, (void *)(uintptr_t)events) == 0);
    while (!waits) {}
    wait_until_in(waits, SYS_epoll_wait, SYS_epoll_pwait);
    return thread;
}

/* That the server sends no more is news, also to a program that has ended reading before. */
static void ended_by_both(void) {
    int fd = open_connection();
    settle(fd);
    slept_in = epoll_create1(EPOLL_CLOEXEC);
    watch(slept_in, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    pthread_t thread = asleep_for(EPOLLIN);
    send_ping(fd);
    CHECK(pthread_join(thread, NULL) == 0);
    read_pong(fd);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    sleeps((void *)(uintptr_t)(EPOLLIN | EPOLLRDHUP));
    thread = asleep_for(EPOLLIN | EPOLLRDHUP);
    end(fd);
    CHECK(pthread_join(thread, NULL) == 0);
    close(fd);
}

/* ---- waits that are left ---- */

static sigjmp_buf out;
static void leaps(int signal) { siglongjmp(out, signal); }

static void by_a_leap(int fd) {
    struct sigaction action = {.sa_handler = leaps};
    struct itimerval timer = {.it_value.tv_usec = 20000};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    if (sigsetjmp(out, 1) == 0) {
        char byte;
        CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
        CHECK(recv(fd, &byte, 1, 0) == 1);
    }
}

static void *waits_for_ever(void *connection) {
    char byte;
    waits = gettid();
    CHECK(recv(*(int *)connection, &byte, 1, 0) == 1);
    return NULL;
}

static void cancel(pthread_t thread) {
    void *result;
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
}

static void by_a_cancelled_thread(int fd) {
    pthread_t thread;
    waits = 0;
    CHECK(pthread_create(&thread, NULL, waits_for_ever, &fd) == 0);
    while (!waits) {}
    wait_until_in(waits, SYS_recvfrom, SYS_recvfrom);
    cancel(thread);
}

static void *leaps_and_ends(void *connection) {
    by_a_leap(*(int *)connection);
    return NULL;
}

static void by_a_thread_that_leaps(int fd) {
    sigset_t alarms;
    pthread_t thread;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    CHECK(pthread_create(&thread, NULL, leaps_and_ends, &fd) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, &alarms, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &alarms, NULL) == 0);
}

/* Somebody left a wait that did not end. Others go on, and hear of the server's end. */
static void left(void) {
    void (*const leave[])(int) = {by_a_leap, by_a_cancelled_thread, by_a_thread_that_leaps};
    for (int way = 0; way < times(); way++) {
        int fd = open_connection();
        settle(fd);
        for (int i = 0; i < 3; i++) {
            leave[way](fd);
            settle(fd);
        }
        leave[way](fd);
        char byte;
        ssize_t count;
        end(fd);
        while ((count = recv(fd, &byte, 1, MSG_DONTWAIT)) == -1) CHECK(errno == EAGAIN);
        CHECK(count == 0);
        close(fd);
    }
}

static volatile int talks;

static void *talks_for_ever(void *connection) {
    for (;;) {
        send_ping(*(int *)connection);
        read_pong(*(int *)connection);
        talks++;
    }
    return NULL;
}

/* A thread that finds something to do whenever it asks is cancelled when it asks. */
static void cancelled(void) {
    int fd = open_connection();
    settle(fd);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, talks_for_ever, &fd) == 0);
    while (talks < 100) {}
    cancel(thread);
    close(fd);
}

static const struct test TESTS[] = {
    TEST(pushes), TEST(halves), TEST(ended), TEST(ended_early), TEST(reading_ended), TEST(deaf),
    TEST(numbers), TEST(flags), TEST(much), TEST(refused_beside), TEST(rung), TEST(nested),
    TEST(nested_twice), TEST(ended_by_both), TEST(left), TEST(cancelled),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
