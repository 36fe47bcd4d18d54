/* What the kernel does for a socket, exactly: readiness that is told once, messages that
 * are sent in part, calls that are refused. The same with and without the preloaded
 * library. */
#include "talk.h"

#include <sys/syscall.h>

static int epoll_watching(int fd, unsigned events) {
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    return epfd;
}

static void watch_again(int epfd, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &event) == 0);
}

/* ---- epoll ---- */

/* As tokio does it: a reply comes while a long value has filled the buffer; that there is
 * space again is told all the same. */
static void space_is_news_after_a_reply(void) {
    enum { SIZE = 4000000 };
    static char value[SIZE];
    char head[64];
    for (int round = 0; round < 20; round++) {
        int fd = moved_connection(), other = moved_connection();
        set_nonblocking(fd, 1);
        int epfd = epoll_watching(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        int length = sprintf(head, "PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", SIZE - 2);
        memcpy(value + SIZE - 2, "\r\n", 2);
        occupy_server(other, 20);
        CHECK(send(fd, head, length, 0) == length);
        size_t sent = 0, received = 0;
        int readable = 1, writable = 1;
        while (received < PONG_LENGTH + 5) {
            /* What was told of once is true until it turns out not to be. */
            while (writable && sent < SIZE) {
                ssize_t count = send(fd, value + sent, SIZE - sent, MSG_NOSIGNAL);
                CHECK(count > 0 || errno == EAGAIN);
                if (count < 0) writable = 0;
                else sent += count;
            }
            while (readable) {
                char buffer[64];
                ssize_t count = recv(fd, buffer, sizeof buffer, 0);
                CHECK(count > 0 || errno == EAGAIN);
                if (count < 0) readable = 0;
                else received += count;
            }
            struct epoll_event event;
            if (received == PONG_LENGTH + 5) break;
            CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
            readable |= event.events & EPOLLIN;
            writable |= event.events & EPOLLOUT;
        }
        close(epfd);
        close(fd);
        close(other);
    }
}

/* What comes at the moment of a report is reported, now or next. */
static void nothing_comes_unnoticed(void) {
    int fd = moved_connection();
    set_nonblocking(fd, 1);
    int epfd = epoll_watching(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    enum { ROUNDS = 200000 };
    size_t received = 0;
    for (int round = 0; round < ROUNDS; round++) {
        send_ping(fd);
        /* The registration is new: that it is writable is reported as the reply comes. */
        watch_again(epfd, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        for (volatile int pause = round % 400; pause > 0; pause--) {}
        while (received < (size_t)(round + 1) * PONG_LENGTH) {
            struct epoll_event event;
            CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
            if (!(event.events & EPOLLIN)) continue;
            char buffer[64];
            ssize_t count;
            while ((count = recv(fd, buffer, sizeof buffer, 0)) > 0) received += count;
        }
    }
    close(epfd);
    close(fd);
}

static int strangers_epfd;
static volatile pid_t blocked;

static void *stranger(void *expected) {
    struct epoll_event event;
    blocked = gettid();
    CHECK(epoll_wait(strangers_epfd, &event, 1, -1) == 1);
    CHECK(event.data.fd == *(int *)expected && event.events == EPOLLIN);
    return NULL;
}

/* A thread slept in an epoll instance before any of this was known of it. */
static void asleep_before_it_watched(int moved_before) {
    int fd = moved_before ? moved_connection() : open_connection();
    strangers_epfd = epoll_create1(EPOLL_CLOEXEC);
    pthread_t thread;
    blocked = 0;
    CHECK(pthread_create(&thread, NULL, stranger, &fd) == 0);
    while (!blocked) {}
    wait_until_in(blocked, SYS_epoll_wait, SYS_epoll_pwait);
    struct epoll_event event = {.events = moved_before ? EPOLLIN : 0, .data.fd = fd};
    CHECK(epoll_ctl(strangers_epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    if (!moved_before) settle(fd);
    event.events = EPOLLIN;
    if (!moved_before) CHECK(epoll_ctl(strangers_epfd, EPOLL_CTL_MOD, fd, &event) == 0);
    send_ping(fd);
    CHECK(pthread_join(thread, NULL) == 0);
    read_pong(fd);
    close(fd);
    close(strangers_epfd);
}

static void asleep_before_it_watched_one_that_moved(void) { asleep_before_it_watched(1); }
static void asleep_before_one_that_it_watched_moved(void) { asleep_before_it_watched(0); }

/* Who slept there was told of a one-shot that had not moved yet: that was all. */
static void one_shot_before_it_moved(void) {
    int fd = open_connection();
    pthread_t thread;
    strangers_epfd = epoll_create1(EPOLL_CLOEXEC);
    blocked = 0;
    CHECK(pthread_create(&thread, NULL, stranger, &fd) == 0);
    while (!blocked) {}
    wait_until_in(blocked, SYS_epoll_wait, SYS_epoll_pwait);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fd};
    CHECK(epoll_ctl(strangers_epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    send_ping(fd);
    CHECK(pthread_join(thread, NULL) == 0);
    read_pong(fd);
    CHECK(epoll_wait(strangers_epfd, &event, 1, 0) == 0);
    settle(fd);
    send_ping(fd);
    wait_readable(fd);
    CHECK(epoll_wait(strangers_epfd, &event, 1, 0) == 0);
    read_pong(fd);
    close(fd);
    close(strangers_epfd);
}

static sem_t goes_on;
static volatile int taken;

/* One of a pool: whoever is told of a connection answers for it. */
static void *worker(void *connections) {
    struct epoll_event event;
    blocked = gettid();
    CHECK(epoll_wait(strangers_epfd, &event, 1, -1) == 1 && event.events == EPOLLIN);
    int first = __atomic_fetch_add(&taken, 1, __ATOMIC_SEQ_CST) == 0;
    read_pong(event.data.fd);
    if (first) {
        /* It waits for what another one has to find out. */
        send_ping(((int *)connections)[event.data.fd == ((int *)connections)[0]]);
        CHECK(sem_wait(&goes_on) == 0);
    } else {
        CHECK(sem_post(&goes_on) == 0);
    }
    return NULL;
}

/* Several slept there, and one that was told of something waits for another one. */
static void asleep_in_numbers(void) {
    int fds[] = {moved_connection(), moved_connection()};
    pthread_t threads[2];
    CHECK(sem_init(&goes_on, 0, 0) == 0);
    strangers_epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        blocked = 0;
        CHECK(pthread_create(&threads[i], NULL, worker, fds) == 0);
        while (!blocked) {}
        wait_until_in(blocked, SYS_epoll_wait, SYS_epoll_pwait);
    }
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = fds[i]};
        CHECK(epoll_ctl(strangers_epfd, EPOLL_CTL_ADD, fds[i], &event) == 0);
    }
    send_ping(fds[0]);
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    close(fds[0]);
    close(fds[1]);
}

static void *sleeper_by_epoll(void *epfd) {
    struct epoll_event event;
    blocked = gettid();
    CHECK(epoll_wait(*(int *)epfd, &event, 1, -1) == 1 && event.events == EPOLLIN);
    return NULL;
}

static void asleep(void) {
    char name[64], line[256];
    for (int times = 0; times < 20;) {
        sprintf(name, "/proc/self/task/%d/stat", blocked);
        FILE *file = fopen(name, "r");
        CHECK(file && fgets(line, sizeof line, file));
        fclose(file);
        times = strstr(line, ") S") ? times + 1 : 0;
        sched_yield();
    }
}

/* The peer has ended; nobody wants to hear of it at the moment, so nobody is woken. */
static void an_end_that_nobody_waits_for(void) {
    int fd = moved_connection(), other[2];
    CHECK(pipe(other) == 0);
    send_ping(fd);
    wait_readable(fd);
    int epfd = epoll_watching(fd, EPOLLIN | EPOLLONESHOT);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = other[0]};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, other[0], &event) == 0);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.data.fd == fd);
    CHECK(send(fd, "QUIT\r\n", 6, 0) == 6);
    struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
    CHECK(poll(&entry, 1, -1) == 1);
    pthread_t thread;
    blocked = 0;
    CHECK(pthread_create(&thread, NULL, sleeper_by_epoll, &epfd) == 0);
    while (!blocked) {}
    wait_until_in(blocked, SYS_epoll_wait, SYS_epoll_pwait);
    asleep();
    CHECK(write(other[1], "x", 1) == 1);
    CHECK(pthread_join(thread, NULL) == 0);
    read_pong(fd);
    close(fd);
}

/* Hanging up is told to those who ask for nothing, also while there is something to read. */
static void hang_ups_are_always_told(void) {
    int fd = moved_connection();
    send_ping(fd);
    CHECK(send(fd, "QUIT\r\n", 6, 0) == 6);
    struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLRDHUP);
    entry.events = 0;
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLHUP);
    int epfd = epoll_watching(fd, 0);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.events & EPOLLHUP);
    read_pong(fd);
    close(fd);
}

/* Two that the program gave the same data: a report of one disarms that one alone. */
static void one_shots_with_the_same_data(void) {
    int one = open_connection(), other = open_connection();
    int epfd = epoll_watching(one, EPOLLIN | EPOLLONESHOT);
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.fd = one};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, other, &event) == 0);
    send_ping(one);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
    read_pong(one);
    settle(one);
    settle(other);
    send_ping(other);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
    read_pong(other);
    close(one);
    close(other);
    close(epfd);
}

/* The name by which it is watched is closed: of its duplicate the instance tells on. */
static void watched_by_a_name_that_is_closed(void) {
    int fd = open_connection(), epfd = epoll_watching(fd, EPOLLIN), copy = dup(fd);
    close(fd);
    for (int i = 0; i < 40; i++) {
        struct epoll_event event;
        send_ping(copy);
        CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.data.fd == fd);
        read_pong(copy);
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
    }
    close(copy);
    close(epfd);
}

static void *waits_until_cancelled(void *epfd) {
    struct epoll_event event;
    blocked = gettid();
    epoll_wait(*(int *)epfd, &event, 1, -1);
    return NULL;
}

/* A thread that waited is gone for good. */
static void a_waiter_is_cancelled(void) {
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    pthread_t thread;
    void *result;
    blocked = 0;
    CHECK(pthread_create(&thread, NULL, waits_until_cancelled, &epfd) == 0);
    while (!blocked) {}
    wait_until_in(blocked, SYS_epoll_wait, SYS_epoll_pwait);
    CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    int fd = moved_connection();
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    for (int i = 0; i < 40; i++) {
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
        send_ping(fd);
        CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
        read_pong(fd);
    }
    close(fd);
    close(epfd);
}

/* ---- epoll_ctl ---- */

/* The number of the error, or 0. */
static int control(int epfd, int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    return epoll_ctl(epfd, operation, fd, &event) == 0 ? 0 : errno;
}

/* An exclusive registration is for good, and asks for bytes and space alone. */
static void exclusive_for_good(void) {
    int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT) == EINVAL);
    CHECK(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP) == EINVAL);
    CHECK(control(epfd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE) == EINVAL);
    CHECK(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET) == 0);
    CHECK(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE) == EEXIST);
    CHECK(control(epfd, EPOLL_CTL_MOD, fd, EPOLLIN) == EINVAL);
    CHECK(control(epfd, EPOLL_CTL_DEL, fd, 0) == 0);
    CHECK(control(epfd, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
    CHECK(control(epfd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE) == EINVAL);
    CHECK(control(epfd, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT) == 0);
    close(epfd);
    close(fd);
}

/* `outer` watches an instance, which comes to watch a connection that has moved. */
static void is_told_by(int outer, int inner, int fd) {
    struct epoll_event event;
    CHECK(control(inner, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(epoll_wait(outer, &event, 1, 0) == 0);
        send_ping(fd);
        CHECK(epoll_wait(outer, &event, 1, -1) == 1 && event.events == EPOLLIN);
        CHECK(epoll_wait(inner, &event, 1, -1) == 1 && event.data.fd == fd);
        read_pong(fd);
    }
}

/* Told of an instance by a number that is not its first. */
static void nested_by_another_number(void) {
    int fd = moved_connection(), inner = epoll_create1(EPOLL_CLOEXEC), copy = dup(inner);
    is_told_by(epoll_watching(copy, EPOLLIN), inner, fd);
    close(fd);
}

/* One that was watched by an instance which is gone. */
static void nested_no_more(void) {
    int fd = moved_connection(), inner = epoll_create1(EPOLL_CLOEXEC);
    close(epoll_watching(inner, EPOLLIN));
    int outer = epoll_create1(EPOLL_CLOEXEC);
    CHECK(control(inner, EPOLL_CTL_ADD, fd, EPOLLIN) == 0);
    CHECK(control(inner, EPOLL_CTL_DEL, fd, 0) == 0);
    CHECK(control(outer, EPOLL_CTL_ADD, inner, EPOLLIN) == 0);
    is_told_by(outer, inner, fd);
    close(fd);
}

/* That the one direction has ended is news, and then that the other has. */
static void each_end_is_news(void) {
    int fd = moved_connection(), epfd = epoll_watching(fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    struct epoll_event event;
    CHECK(shutdown(fd, SHUT_RD) == 0);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.events == (EPOLLIN | EPOLLRDHUP));
    CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
    CHECK(shutdown(fd, SHUT_WR) == 0);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.events == (EPOLLIN | EPOLLRDHUP | EPOLLHUP));
    close(epfd);
    close(fd);
}

/* Who asks for the end alone is told of that alone. */
static void an_end_alone(void) {
    int fd = moved_connection(), epfd = epoll_watching(fd, EPOLLRDHUP);
    struct epoll_event event;
    settle(fd);
    CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
    CHECK(send(fd, "QUIT\r\n", 6, 0) == 6);
    CHECK(epoll_wait(epfd, &event, 1, -1) == 1 && event.events & EPOLLRDHUP && !(event.events & EPOLLIN));
    close(epfd);
    close(fd);
}

/* ---- sending ---- */

static int both_threads_fd;

static void *reads_pongs(void *unused) {
    for (int i = 0; i < 1000; i++) {
        read_pong(both_threads_fd);
        CHECK(sem_post(&goes_on) == 0);
    }
    return unused;
}

/* One thread writes, another reads: a reply may be read before the write has returned. */
static void a_thread_for_each_direction(void) {
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        both_threads_fd = open_connection();
        CHECK(sem_init(&goes_on, 0, 0) == 0);
        CHECK(pthread_create(&thread, NULL, reads_pongs, NULL) == 0);
        for (int i = 0; i < 1000; i++) {
            send_ping(both_threads_fd);
            CHECK(sem_wait(&goes_on) == 0);
        }
        CHECK(pthread_join(thread, NULL) == 0);
        close(both_threads_fd);
    }
}


/* A message that is sent in part is the last one: the next must not overtake its rest. */
static void messages_in_order(void) {
    enum { SIZE = 400000 };
    static char value[SIZE + 64];
    int fd = moved_connection();
    set_nonblocking(fd, 1);
    for (int round = 0; round < 300; round++) {
        int length = sprintf(value, "*2\r\n$4\r\nECHO\r\n$%d\r\n", SIZE);
        memset(value + length, 'e', SIZE);
        memcpy(value + length + SIZE, "\r\n", 2);
        length += SIZE + 2;
        struct iovec first = {value, length}, second = {(void *)PING, PING_LENGTH};
        struct mmsghdr messages[] = {{.msg_hdr = {.msg_iov = &first, .msg_iovlen = 1}},
                                     {.msg_hdr = {.msg_iov = &second, .msg_iovlen = 1}}};
        int count = sendmmsg(fd, messages, 2, MSG_NOSIGNAL);
        CHECK(count >= 1);
        size_t sent = messages[0].msg_len + (count == 2 ? messages[1].msg_len : 0);
        CHECK(count == 1 || messages[0].msg_len == (unsigned)length);
        size_t received = 0, all = SIZE + strlen("$400000\r\n\r\n") + PONG_LENGTH;
        while (received < all) {
            struct pollfd entry = {.fd = fd, .events = POLLIN | (sent < (size_t)length + PING_LENGTH ? POLLOUT : 0)};
            CHECK(poll(&entry, 1, -1) == 1);
            while (sent < (size_t)length + PING_LENGTH) {
                int in_first = sent < (size_t)length;
                const char *from = in_first ? value + sent : PING + (sent - length);
                ssize_t more = send(fd, from, in_first ? length - sent : length + PING_LENGTH - sent, MSG_NOSIGNAL);
                if (more < 0) break;
                sent += more;
            }
            static char reply[65536];
            ssize_t more;
            while ((more = recv(fd, reply, sizeof reply, 0)) > 0) received += more;
            CHECK(more == -1 && errno == EAGAIN);
        }
        CHECK(received == all);
    }
    close(fd);
}

/* ---- flags ---- */

/* What is no data of the stream is not taken from it. */
static void other_queues(void) {
    int fd = moved_connection();
    send_ping(fd);
    wait_readable(fd);
    char buffer[64];
    struct iovec span = {buffer, sizeof buffer};
    struct msghdr message = {.msg_iov = &span, .msg_iovlen = 1};
    CHECK(recvmsg(fd, &message, MSG_OOB | MSG_DONTWAIT) == -1);
    CHECK(recv(fd, buffer, sizeof buffer, MSG_OOB | MSG_DONTWAIT) == -1);
    read_pong(fd);
    close(fd);
}

/* Over TCP: bytes that are thrown away. */
static void thrown_away(void) {
    int fd = moved_connection();
    for (int i = 0; i < 40; i++) {
        char buffer[64] = "untouched";
        send_ping(fd);
        send_ping(fd);
        wait_readable(fd);
        CHECK(recv(fd, i % 2 ? buffer : NULL, PONG_LENGTH, MSG_TRUNC | MSG_WAITALL) == PONG_LENGTH);
        CHECK(strcmp(buffer, "untouched") == 0);
        read_pong(fd);
    }
    close(fd);
    /* Before it moves, too. */
    fd = open_connection();
    for (int i = 0; i < 40; i++) {
        char buffer[64] = "untouched";
        send_ping(fd);
        CHECK(recv(fd, buffer, PONG_LENGTH, MSG_TRUNC | MSG_WAITALL) == PONG_LENGTH);
        CHECK(strcmp(buffer, "untouched") == 0);
        send_ping(fd);
        read_pong(fd);
    }
    close(fd);
}

/* ---- calls that are refused change nothing ---- */

static void refused_calls(void) {
    int fd = moved_connection();
    CHECK(dup2(999, fd) == -1 && errno == EBADF);
    settle(fd);
    CHECK(dup2(-1, fd) == -1 && errno == EBADF);
    CHECK(dup3(999, fd, 0) == -1 && errno == EBADF);
#ifdef __GLIBC__
    CHECK(dup3(0, fd, 12345) == -1 && errno == EINVAL);
#endif
    settle(fd);
    volatile int how = 77;
    CHECK(shutdown(fd, how) == -1 && errno == EINVAL);
    settle(fd);
    CHECK(close_range(5, 3, 0) == -1 && errno == EINVAL);
    CHECK(close_range(3, 1000, 1 << 20) == -1 && errno == EINVAL);
    char *volatile nowhere = NULL;
    CHECK(write(fd, nowhere, 5) == -1 && errno == EFAULT);
    send_ping(fd);
    wait_readable(fd);
    CHECK(read(fd, nowhere, 5) == -1 && errno == EFAULT);
    read_pong(fd);
    settle(fd);
    close(fd);
}

/* ---- ends ---- */

static void *reads_until_woken(void *connection) {
    char buffer[64];
    blocked = gettid();
    return (void *)recv(*(int *)connection, buffer, sizeof buffer, 0);
}

/* Who waits for something to read is woken when the direction is shut down. */
static void reading_is_shut_down(void) {
    int fd = moved_connection();
    pthread_t thread;
    blocked = 0;
    CHECK(pthread_create(&thread, NULL, reads_until_woken, &fd) == 0);
    while (!blocked) {}
    wait_until_in(blocked, SYS_recvfrom, SYS_recvfrom);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    void *count;
    CHECK(pthread_join(thread, &count) == 0 && count == NULL);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents & POLLIN);
    int epfd = epoll_watching(fd, EPOLLIN | EPOLLRDHUP);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, 0) == 1 && event.events & EPOLLIN && event.events & EPOLLRDHUP);
    close(fd);
}

static volatile int open_in_handler;

/* As redis-cli does it at Ctrl-C: close(2) may be called by signal handlers. */
static void close_it(int signal) {
    (void)signal;
    close(open_in_handler);
    open_in_handler = -1;
}

static void closed_by_a_signal_handler(void) {
    struct sigaction action = {.sa_handler = close_it};
    sigaction(SIGALRM, &action, NULL);
    for (int round = 0; round < 1000; round++) {
        int fd = open_connection();
        settle(fd);
        open_in_handler = fd;
        struct itimerval timer = {.it_value.tv_usec = 200 + round % 300};
        setitimer(ITIMER_REAL, &timer, NULL);
        while (open_in_handler >= 0) {
            char buffer[4096];
            if (send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) < 0) break;
            if (recv(fd, buffer, sizeof buffer, 0) <= 0) break;
        }
        while (open_in_handler >= 0) {}
    }
}

/* What is written is executed although the program ends at once. */
static void last_words_before_exit(void) {
    int watcher = moved_connection();
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        if (child == 0) {
            int fd = open_connection();
            for (int i = 0; i < 16 + round % 2; i++) {
                send_ping(fd);
                read_pong(fd);
            }
            CHECK(send(fd, "INCR last\r\n", 11, 0) == 11);
            exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    char answer[16] = "";
    for (int tries = 0; tries < 3000 && strcmp(answer, ":100\r\n") != 0; tries++) {
        usleep(1000);
        CHECK(send(watcher, "INCRBY last 0\r\n", 15, 0) == 15);
        ssize_t count = recv(watcher, answer, sizeof answer - 1, 0);
        CHECK(count > 0);
        answer[count] = 0;
    }
    CHECK(strcmp(answer, ":100\r\n") == 0);
}

static const struct test TESTS[] = {
    TEST(space_is_news_after_a_reply), TEST(nothing_comes_unnoticed),
    TEST(asleep_before_it_watched_one_that_moved), TEST(asleep_before_one_that_it_watched_moved),
    TEST(one_shot_before_it_moved), TEST(asleep_in_numbers), TEST(an_end_that_nobody_waits_for), TEST(hang_ups_are_always_told), TEST(one_shots_with_the_same_data), TEST(watched_by_a_name_that_is_closed),
    TEST(a_waiter_is_cancelled), TEST(a_thread_for_each_direction), TEST(thrown_away), TEST(messages_in_order),
    TEST(exclusive_for_good), TEST(nested_by_another_number), TEST(nested_no_more), TEST(each_end_is_news),
    TEST(an_end_alone), TEST(other_queues), TEST(refused_calls), TEST(reading_is_shut_down), TEST(closed_by_a_signal_handler), TEST(last_words_before_exit),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
