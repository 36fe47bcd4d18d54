/* What an interposer overlooks easily: descriptors that are closed, watched and read under
 * other names, by other functions, from other threads, or by no function at all.
 * The same is seen with and without the preloaded library. */
#include "talk.h"

#include <aio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

/* The C library's names for its own use; other libraries call them, too. */
extern ssize_t __read(int, void *, size_t);
extern ssize_t __write(int, const void *, size_t);
extern ssize_t __send(int, const void *, size_t, int);

static const uint64_t MARK = 0x1234567800000000;

static void watch(int epfd, int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.u64 = MARK | (unsigned)fd};
    CHECK(epoll_ctl(epfd, operation, fd, &event) == 0);
}

/* Waits for an event, which is of that connection alone; what it says. */
static unsigned event_of(int epfd, int fd) {
    struct epoll_event events[4];
    CHECK(epoll_wait(epfd, events, 4, -1) == 1);
    CHECK(events[0].data.u64 == (MARK | (unsigned)fd));
    return events[0].events;
}

/* Reads the reply by a non-blocking connection whose events are edges: once it is told. */
static void read_pong_at_edges(int epfd, int fd) {
    char buffer[64];
    size_t have = 0;
    while (have < PONG_LENGTH) {
        event_of(epfd, fd);
        ssize_t count;
        while ((count = read(fd, buffer + have, sizeof buffer - have)) > 0) have += count;
        CHECK(count == -1 && errno == EAGAIN);
    }
    CHECK(have == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
}

/* A system call that no library sees. */
static long unseen(long number, long a, long b, long c, long d, long e, long f) {
#if defined __x86_64__
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined __aarch64__
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
#error "no system calls of its own for this architecture"
#endif
}

/* ---- epoll instances ---- */

static int by_dup(int fd) { return dup(fd); }
static int by_dup3(int fd) { return dup3(fd, 500, O_CLOEXEC); }
static int by_fcntl(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 3); }

/* As mio does it: the instance has two names before it watches anything, one for
 * registering and the other for waiting. */
static void waited_for_by_a_duplicate(void) {
    int (*const duplicate[])(int) = {by_dup, by_dup3, by_fcntl};
    for (int way = 0; way < 6; way++) {
        int first = epoll_create1(EPOLL_CLOEXEC), second = duplicate[way / 2](first);
        int registers = way % 2 ? first : second, waits = way % 2 ? second : first;
        int fd = open_connection();
        set_nonblocking(fd, 1);
        watch(registers, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        for (int i = 0; i < 60; i++) {
            send_ping(fd);
            read_pong_at_edges(waits, fd);
        }
        watch(registers, EPOLL_CTL_DEL, fd, 0);
        send_ping(fd);
        wait_readable(fd);
        struct epoll_event event;
        CHECK(epoll_wait(waits, &event, 1, 0) == 0);
        read_pong(fd);
        close(fd);
        close(first);
        close(second);
    }
}

static int event_loop, ends_loop;
static volatile pid_t loops;
static sem_t has_space;

/* Tells of space. What can be read is not its own. */
static void *tells_of_space(void *connection) {
    loops = gettid();
    for (;;) {
        struct epoll_event event;
        CHECK(epoll_wait(event_loop, &event, 1, -1) == 1);
        if (event.data.u64 == (MARK | (unsigned)ends_loop)) return NULL;
        CHECK(event.data.u64 == (MARK | (unsigned)*(int *)connection));
        if (event.events & EPOLLOUT) CHECK(sem_post(&has_space) == 0);
    }
}

/* One thread sleeps in the event loop while another one writes all that there is space for. */
static void another_thread_fills_the_ring(void) {
    enum { SIZE = 3000000 };
    static char command[SIZE + 64];
    int fd = moved_connection(), other = moved_connection(), ends[2], space = 65536, times_full = 0;
    CHECK(pipe(ends) == 0 && sem_init(&has_space, 0, 0) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &space, sizeof space) == 0);
    set_nonblocking(fd, 1);
    event_loop = epoll_create1(EPOLL_CLOEXEC);
    ends_loop = ends[0];
    watch(event_loop, EPOLL_CTL_ADD, ends_loop, EPOLLIN);
    watch(event_loop, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, tells_of_space, &fd) == 0);
    CHECK(sem_wait(&has_space) == 0);
    int length = sprintf(command, "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", SIZE);
    memset(command + length, 'x', SIZE);
    memcpy(command + length + SIZE, "\r\n", 2);
    length += SIZE + 2;
    for (int round = 0; round < 5; round++) {
        wait_until_in(loops, SYS_epoll_wait, SYS_epoll_pwait);
        occupy_server(other, 30);
        for (int sent = 0; sent < length;) {
            ssize_t count = send(fd, command + sent, length - sent, MSG_NOSIGNAL);
            if (count > 0) {
                sent += count;
            } else {
                CHECK(errno == EAGAIN && sem_wait(&has_space) == 0);
                times_full++;
            }
        }
        wait_readable(fd);
        char answer[64];
        CHECK(recv(fd, answer, sizeof answer, 0) == 5 && memcmp(answer, "+OK\r\n", 5) == 0);
        CHECK(recv(other, answer, sizeof answer, 0) == 4);
    }
    CHECK(times_full > 0);
    CHECK(write(ends[1], "x", 1) == 1 && pthread_join(thread, NULL) == 0);
    close(fd);
    close(other);
}

static int unconnected(void) {
    return socket(path[0] == '/' ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void connect_nonblocking(int fd) {
    struct sockaddr_in by_port = {.sin_family = AF_INET, .sin_port = htons(atoi(path)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un by_path = {.sun_family = AF_UNIX};
    strncpy(by_path.sun_path, path, sizeof by_path.sun_path - 1);
    int is_path = path[0] == '/';
    const struct sockaddr *address = is_path ? (void *)&by_path : (void *)&by_port;
    int result = connect(fd, address, is_path ? sizeof by_path : sizeof by_port);
    CHECK(result == 0 || errno == EINPROGRESS);
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    int error = -1;
    socklen_t length = sizeof error;
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents == POLLOUT);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0);
}

/* As asio does it: registered when it is opened, once for all. */
static void added_before_it_connects(void) {
    int fd = unconnected(), epfd = epoll_create1(EPOLL_CLOEXEC);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLET);
    connect_nonblocking(fd);
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        read_pong_at_edges(epfd, fd);
    }
    close(fd);
    close(epfd);
}

/* As libevent does it: it watches for the connection first, then for replies. */
static void changed_once_it_is_connected(void) {
    int fd = unconnected(), epfd = epoll_create1(EPOLL_CLOEXEC);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLOUT);
    connect_nonblocking(fd);
    CHECK(event_of(epfd, fd) == EPOLLOUT);
    watch(epfd, EPOLL_CTL_MOD, fd, EPOLLIN);
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        CHECK(event_of(epfd, fd) == EPOLLIN);
        read_pong(fd);
    }
    close(fd);
    close(epfd);
}

/* Of two instances that share it, at least one is told. */
static void shared_exclusively(void) {
    int fd = open_connection(), epfds[] = {epoll_create1(EPOLL_CLOEXEC), epoll_create1(EPOLL_CLOEXEC)};
    for (int i = 0; i < 2; i++) watch(epfds[i], EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE);
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        struct epoll_event event;
        for (int told = 0, turn = 0; !told; turn++) {
            told = epoll_wait(epfds[turn % 2], &event, 1, 1);
            CHECK(told >= 0 && (!told || (event.events == EPOLLIN && event.data.u64 == (MARK | (unsigned)fd))));
        }
        read_pong(fd);
        for (int j = 0; j < 2; j++) CHECK(epoll_wait(epfds[j], &event, 1, 0) == 0);
    }
    close(fd);
}

static void deleted_and_added_around_each_event(void) {
    int fd = open_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 200; i++) {
        watch(epfd, EPOLL_CTL_ADD, fd, i % 3 ? EPOLLIN : EPOLLIN | EPOLLET);
        send_ping(fd);
        CHECK(event_of(epfd, fd) == EPOLLIN);
        watch(epfd, EPOLL_CTL_DEL, fd, 0);
        struct epoll_event event;
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
        read_pong(fd);
    }
    close(fd);
    close(epfd);
}

/* ---- many connections ---- */

enum { IDLE = 2000 };

static void two_thousand_are_idle(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    static int fds[IDLE];
    static struct epoll_event events[IDLE];
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < IDLE; i++) {
        fds[i] = moved_connection();
        watch(epfd, EPOLL_CTL_ADD, fds[i], EPOLLIN);
    }
    int active = fds[IDLE / 2];
    for (int i = 0; i < 5000; i++) {
        send_ping(active);
        CHECK(event_of(epfd, active) == EPOLLIN);
        read_pong(active);
    }
    /* All at once; each is told of until it is read, and not again. */
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < IDLE; i++) send_ping(fds[i]);
        int left = IDLE;
        while (left > 0) {
            int count = epoll_wait(epfd, events, IDLE, -1);
            CHECK(count > 0);
            for (int i = 0; i < count; i++) {
                int fd = (int)(events[i].data.u64 & 0xffffffff);
                CHECK(events[i].data.u64 == (MARK | (unsigned)fd) && events[i].events == EPOLLIN);
                read_pong(fd);
            }
            left -= count;
        }
        CHECK(left == 0 && epoll_wait(epfd, events, IDLE, 0) == 0);
    }
    for (int i = 0; i < IDLE; i++) close(fds[i]);
}

/* ---- who is asked how it waits ---- */

/* No function of a library's is waited in: it stays where it is. */
static void waited_for_unseen(void) {
    int fd = open_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    set_nonblocking(fd, 1);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN);
    for (int i = 0; i < 60; i++) {
        struct epoll_event event;
        send_ping(fd);
        CHECK(unseen(SYS_epoll_pwait, epfd, (long)&event, 1, -1, 0, 8) == 1);
        CHECK(event.events == EPOLLIN && event.data.u64 == (MARK | (unsigned)fd));
        read_pong(fd);
    }
    close(fd);
    close(epfd);
}

/* Another connection gets its number, before it moves. */
static void replaced_unseen(void) {
    int fd = open_connection(), other = open_connection();
    settle_times(fd, 5);
    CHECK(unseen(SYS_dup3, other, fd, O_CLOEXEC, 0, 0, 0) == fd);
    settle(fd);
    close(fd);
    close(other);
}

/* It is read in blocking mode, so it moves; what it is waited for by before still sees it. */
static void read_after_unseen_polls(void) {
    int fd = open_connection();
    for (int i = 0; i < 1000; i++) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        send_ping(fd);
        CHECK(unseen(SYS_ppoll, (long)&entry, 1, 0, 0, 8, 0) == 1 && entry.revents == POLLIN);
        read_pong(fd);
    }
    close(fd);
}

/* ---- numbers that have a new owner ---- */

static int made_file(void) { return open("/tmp", O_TMPFILE | O_RDWR, 0600); }

static int made_by_mkstemp(void) {
    char name[] = "/tmp/unseen-XXXXXX";
    int fd = mkstemp(name);
    CHECK(unlink(name) == 0);
    return fd;
}

static int made_by_memfd(void) { return memfd_create("unseen", 0); }
static int made_by_syscall(void) { return (int)syscall(SYS_openat, AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR, 0600); }
static int made_by_tmpfile(void) { return fileno(tmpfile()); }

static int file_to_copy;
static int made_by_dup(void) { return dup(file_to_copy); }
static int made_by_fcntl(void) { return fcntl(file_to_copy, F_DUPFD, 0); }

static int messages[2];

/* Sends a message in `messages` that brings a name of this descriptor. */
static void send_descriptor(int fd) {
    char byte = 'd', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec span = {&byte, 1};
    struct msghdr message = {.msg_iov = &span, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    CHECK(sendmsg(messages[0], &message, 0) == 1);
}

static int received_descriptor(int by_recvmmsg) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec span = {&byte, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &span, .msg_iovlen = 1, .msg_control = control,
                                          .msg_controllen = sizeof control}};
    if (by_recvmmsg) CHECK(recvmmsg(messages[1], &message, 1, 0, NULL) == 1);
    else CHECK(recvmsg(messages[1], &message.msg_hdr, 0) == 1);
    int fd;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message.msg_hdr);
    CHECK(header && header->cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static int made_by_recvmsg(void) { return received_descriptor(0); }
static int made_by_recvmmsg(void) { return received_descriptor(1); }

/* What is written to this descriptor, a file, is in the file. */
static void is_a_file(int fd) {
    static const char TEXT[] = "SET leaked 1\r\n";
    char copy[sizeof TEXT] = "";
    CHECK(write(fd, TEXT, sizeof TEXT) == sizeof TEXT);
    CHECK(lseek(fd, 0, SEEK_SET) == 0 && read(fd, copy, sizeof copy) == sizeof copy);
    CHECK(memcmp(copy, TEXT, sizeof TEXT) == 0 && read(fd, copy, 1) == 0);
}

static void nothing_leaked(void) {
    int fd = open_connection();
    CHECK(ask_number(fd, "EXISTS leaked") == 0);
    close(fd);
}

/* However it was closed, whoever is given its number gets the bytes. */
static void closed_unseen(void) {
    int (*const make[])(void) = {made_file, made_by_mkstemp, made_by_memfd, made_by_syscall, made_by_tmpfile,
                                 made_by_dup, made_by_fcntl, made_by_recvmsg, made_by_recvmmsg};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, messages) == 0);
    for (unsigned way = 0; way < sizeof make / sizeof *make; way++) {
        file_to_copy = made_file();
        if (make[way] == made_by_recvmsg || make[way] == made_by_recvmmsg) send_descriptor(file_to_copy);
        int fd = moved_connection();
        CHECK(unseen(SYS_close, fd, 0, 0, 0, 0, 0) == 0);
        CHECK(make[way]() == fd);
        is_a_file(fd);
        close(fd);
        close(file_to_copy);
    }
    nothing_leaked();
}

/* The end of what was closed unseen is told to nobody. */
static void closed_unseen_and_watched(void) {
    int other = open_connection(), fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    char command[64];
    sprintf(command, "CLIENT KILL ID %ld", ask_number(fd, "CLIENT ID"));
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP);
    send_ping(fd);
    CHECK(event_of(epfd, fd) == EPOLLIN);
    CHECK(unseen(SYS_close, fd, 0, 0, 0, 0, 0) == 0);
    ask_number(other, command);
    struct epoll_event event;
    CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
    close(epfd);
    close(other);
}

/* Ends it, by the server or by the program itself. */
static void end(int fd, int by_server) {
    if (by_server) {
        struct pollfd entry = {.fd = fd, .events = POLLRDHUP};
        CHECK(send(fd, "QUIT\r\n", 6, 0) == 6);
        CHECK(poll(&entry, 1, -1) == 1 && entry.revents & POLLRDHUP);
    } else {
        CHECK(shutdown(fd, SHUT_RDWR) == 0);
    }
}

/* Nothing is told of one that has ended and is closed unseen: neither to who asks whether the
 * instance has anything, nor to another instance that watches that one. */
static void ended_and_closed_unseen(void) {
    for (int way = 0; way < 4; way++) {
        int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(EPOLL_CLOEXEC);
        struct pollfd entry = {.fd = epfd, .events = POLLIN};
        struct epoll_event event;
        watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP);
        end(fd, way & 1);
        CHECK(unseen(SYS_close, fd, 0, 0, 0, 0, 0) == 0);
        if (way & 2) {
            watch(outer, EPOLL_CTL_ADD, epfd, EPOLLIN);
            CHECK(epoll_wait(outer, &event, 1, 0) == 0);
        } else {
            CHECK(poll(&entry, 1, 0) == 0);
        }
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
        close(outer);
        close(epfd);
    }
}

/* An instance has been told of a pipe that is closed unseen. Who has its number, unseen, is
 * another matter. */
static void number_of_something_watched(void) {
    int fd = moved_connection(), outer = epoll_create1(EPOLL_CLOEXEC), ends[2];
    CHECK(pipe(ends) == 0);
    watch(outer, EPOLL_CTL_ADD, ends[0], EPOLLIN);
    CHECK(unseen(SYS_close, ends[0], 0, 0, 0, 0, 0) == 0);
    int inner = unseen(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
    CHECK(inner == ends[0]);
    watch(inner, EPOLL_CTL_ADD, fd, EPOLLIN);
    send_ping(fd);
    CHECK(event_of(inner, fd) == EPOLLIN);
    struct epoll_event event;
    CHECK(epoll_wait(outer, &event, 1, 0) == 0);
    read_pong(fd);
    close(inner);
    close(outer);
    close(ends[1]);
    close(fd);
}

static int written_beside, pause_before;
static volatile int is_asked;

/* Sends something some moments later. */
static void *sends_then(void *unused) {
    while (!is_asked) {}
    for (volatile int i = pause_before; i > 0; i--) {}
    send_ping(written_beside);
    return unused;
}

/* One thread sends at the moment at which another one has read the reply with which the
 * connection moves. */
static void sent_beside_the_question(void) {
    for (int round = 0; round < 400; round++) {
        int fd = written_beside = open_connection();
        pthread_t thread;
        pause_before = round * 997 % 40000;
        settle_times(fd, 15);
        is_asked = 0;
        CHECK(pthread_create(&thread, NULL, sends_then, NULL) == 0);
        send_ping(fd);
        is_asked = 1;
        read_pong(fd);
        read_pong(fd);
        CHECK(pthread_join(thread, NULL) == 0);
        settle(fd);
        close(fd);
    }
}

enum { VALUE_SIZE = 20000000 };
static char value[VALUE_SIZE + 64];

/* Writes the command with a long value behind `before`, while the server is busy. Each instance
 * is told that there is space whenever there was none. */
static void write_value(int fd, const char *before, const int *epfds, int count) {
    int other = moved_connection();
    size_t sent = 0, all = VALUE_SIZE;
    all += sprintf(value, "%s*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", before, VALUE_SIZE);
    occupy_server(other, 50);
    while (sent < all) {
        ssize_t written = send(fd, value + sent, all - sent, MSG_NOSIGNAL);
        CHECK(written > 0 || errno == EAGAIN);
        if (written > 0) {
            sent += written;
            continue;
        }
        for (int i = 0; i < count; i++) while (!(event_of(epfds[i], fd) & EPOLLOUT)) {}
    }
    close(other);
}

/* The program has ended reading: that there is space to write is news as before. */
static void space_after_reading_has_ended(void) {
    int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    set_nonblocking(fd, 1);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    CHECK(event_of(epfd, fd) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP));
    write_value(fd, "CLIENT REPLY OFF\r\n", &epfd, 1);
    close(epfd);
    close(fd);
}

/* What was there when the program ended reading can be read, and behind it is the end. */
static void unread_when_reading_ends(void) {
    enum { SIZE = 60000 };
    int fd = moved_connection(), unread = 0;
    size_t all = SIZE + sizeof "$60000\r\n\r\n" - 1;
    CHECK(send(fd, "SETRANGE long 59999 x\r\n", 23, 0) == 23);
    CHECK(read(fd, value, sizeof value) == sizeof ":60000\r\n" - 1);
    CHECK(send(fd, "GET long\r\n", 10, 0) == 10);
    while ((size_t)unread < all) CHECK(ioctl(fd, FIONREAD, &unread) == 0);
    CHECK(shutdown(fd, SHUT_RD) == 0);
    for (ssize_t count; all > 0; all -= count) CHECK((count = read(fd, value, sizeof value)) > 0);
    CHECK(read(fd, value, sizeof value) == 0);
    close(fd);
}

/* That there is space is news to each instance, whichever is asked first. */
static void space_for_each_instance(void) {
    int fd = moved_connection(), epfds[2];
    set_nonblocking(fd, 1);
    for (int i = 0; i < 2; i++) {
        epfds[i] = epoll_create1(EPOLL_CLOEXEC);
        watch(epfds[i], EPOLL_CTL_ADD, fd, EPOLLOUT | EPOLLET);
        CHECK(event_of(epfds[i], fd) == EPOLLOUT);
    }
    write_value(fd, "", epfds, 2);
    close(epfds[0]);
    close(epfds[1]);
    close(fd);
}

static volatile int looks_on, looks;

static void *look_and_look(void *epfd) {
    struct epoll_event event;
    while (looks_on) {
        CHECK(epoll_wait(*(int *)epfd, &event, 1, 0) == 0);
        looks++;
    }
    return NULL;
}

/* Threads look into an instance that comes to watch a connection. Whether they have seen that or
 * not, nothing foreign is left in there, to keep others awake. */
static void looked_at_meanwhile(void) {
    int fd = moved_connection();
    for (int round = 0; round < 200; round++) {
        int epfd = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event;
        pthread_t thread;
        looks_on = 1, looks = 0;
        CHECK(pthread_create(&thread, NULL, look_and_look, &epfd) == 0);
        while (looks < 10 + round) {}
        watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN);
        looks_on = 0;
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(unseen(SYS_epoll_pwait, epfd, (long)&event, 1, 0, 0, 8) == 0);
        close(epfd);
    }
    close(fd);
}

static void closed_by_syscall(void) {
    int fd = moved_connection();
    CHECK(syscall(SYS_close, fd) == 0);
    CHECK(made_file() == fd);
    is_a_file(fd);
    nothing_leaked();
}

/* As the parent of a daemon, or its child, does it. */
static void closed_in_a_loop(void) {
    for (int way = 0; way < 3; way++) {
        int fds[] = {moved_connection(), moved_connection()};
        int epfd = epoll_create1(EPOLL_CLOEXEC);
        watch(epfd, EPOLL_CTL_ADD, fds[1], EPOLLIN);
        send_ping(fds[1]);
        CHECK(event_of(epfd, fds[1]) == EPOLLIN);
        if (way == 2) CHECK(syscall(SYS_close_range, 3, ~0U, 0) == 0);
        for (int fd = 3; way < 2 && fd < 1024; fd++) way == 0 ? close(fd) : (int)syscall(SYS_close, fd);
        for (int i = 0; i < 2; i++) {
            CHECK(fcntl(fds[i], F_GETFD) == -1 && errno == EBADF);
            CHECK(send(fds[i], PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EBADF);
        }
        for (int i = 0; i < 4; i++) {
            CHECK(made_file() == 3 + i);
            is_a_file(3 + i);
        }
        nothing_leaked();
        for (int i = 0; i < 4; i++) close(3 + i);
    }
}

static void closed_by_fclose(void) {
    int fd = moved_connection();
    FILE *stream = fdopen(fd, "r+");
    CHECK(stream && fclose(stream) == 0);
    CHECK(made_file() == fd);
    is_a_file(fd);
    nothing_leaked();
}

/* Closed by its stream, and the number is another connection's. */
static void talks_by_a_stream(void) {
    for (int round = 0; round < 3; round++) {
        int fd = moved_connection();
        FILE *stream = fdopen(fd, "r+");
        char line[64];
        for (int i = 0; i < 20; i++) {
            CHECK(fprintf(stream, "PING\r\n") == 6 && fflush(stream) == 0);
            CHECK(fgets(line, sizeof line, stream) && strcmp(line, PONG) == 0);
        }
        CHECK(fclose(stream) == 0);
        int next = moved_connection();
        CHECK(next == fd);
        settle(next);
        close(next);
    }
}

/* ---- other functions for the same ---- */

static void other_names(void) {
    int fd = moved_connection();
    char buffer[64];
    struct iovec in = {buffer, sizeof buffer}, out = {(void *)PING, PING_LENGTH};
    for (int i = 0; i < 20; i++) {
        CHECK(__write(fd, PING, PING_LENGTH) == PING_LENGTH);
        CHECK(__read(fd, buffer, sizeof buffer) == PONG_LENGTH);
        CHECK(__send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == PING_LENGTH);
        CHECK(preadv2(fd, &in, 1, -1, 0) == PONG_LENGTH);
        CHECK(preadv2(fd, &in, 1, -1, RWF_NOWAIT) == -1 && errno == EAGAIN);
        CHECK(pwritev2(fd, &out, 1, -1, 0) == PING_LENGTH);
        read_pong(fd);
        CHECK(preadv2(fd, &in, 1, 0, 0) == -1 && errno == ESPIPE);
        CHECK(pwritev2(fd, &out, 1, 0, 0) == -1 && errno == ESPIPE);
        CHECK(pread(fd, buffer, 1, 0) == -1 && errno == ESPIPE);
    }
    close(fd);
}

static void other_names_of_calls(void) {
    int fd = moved_connection();
    char buffer[64];
    struct iovec in = {buffer, sizeof buffer}, out = {(void *)PING, PING_LENGTH};
    struct msghdr to_read = {.msg_iov = &in, .msg_iovlen = 1}, to_write = {.msg_iov = &out, .msg_iovlen = 1};
    for (int i = 0; i < 20; i++) {
        CHECK(syscall(SYS_write, fd, PING, PING_LENGTH) == PING_LENGTH);
        CHECK(syscall(SYS_read, fd, buffer, sizeof buffer) == PONG_LENGTH);
        CHECK(syscall(SYS_sendto, fd, PING, PING_LENGTH, 0, NULL, 0) == PING_LENGTH);
        CHECK(syscall(SYS_recvfrom, fd, buffer, sizeof buffer, 0, NULL, NULL) == PONG_LENGTH);
        CHECK(syscall(SYS_recvfrom, fd, buffer, sizeof buffer, MSG_DONTWAIT, NULL, NULL) == -1 && errno == EAGAIN);
        CHECK(syscall(SYS_writev, fd, &out, 1) == PING_LENGTH);
        CHECK(syscall(SYS_readv, fd, &in, 1) == PONG_LENGTH);
        CHECK(syscall(SYS_sendmsg, fd, &to_write, 0) == PING_LENGTH);
        CHECK(syscall(SYS_recvmsg, fd, &to_read, 0) == PONG_LENGTH);
    }
    close(fd);
}

/* Waits as a program does that makes its system calls by `syscall` alone, from the start. */
static void waited_for_by_syscall(void) {
    int fd = open_connection(), epfd = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
    set_nonblocking(fd, 1);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = MARK | (unsigned)fd};
    CHECK(syscall(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    struct timespec nothing = {0};
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        if (i % 2) CHECK(syscall(SYS_epoll_pwait2, epfd, &event, 1, NULL, NULL, 8L) == 1);
        else CHECK(syscall(SYS_epoll_pwait, epfd, &event, 1, -1, NULL, 8L) == 1);
        CHECK(event.events == EPOLLIN && event.data.u64 == (MARK | (unsigned)fd));
        read_pong(fd);
        CHECK(syscall(SYS_epoll_pwait2, epfd, &event, 1, &nothing, NULL, 8L) == 0);
        CHECK(syscall(SYS_epoll_pwait, epfd, &event, 1, 0, NULL, 8L) == 0);
    }
    close(fd);
    close(epfd);
}

static void polled_by_syscall(void) {
    int fd = open_connection();
    set_nonblocking(fd, 1);
    for (int i = 0; i < 60; i++) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        send_ping(fd);
#ifdef SYS_poll
        CHECK(syscall(SYS_poll, &entry, 1L, -1) == 1 && entry.revents == POLLIN);
        entry.revents = 0;
#endif
        CHECK(syscall(SYS_ppoll, &entry, 1L, NULL, NULL, 8L) == 1 && entry.revents == POLLIN);
        CHECK(syscall(SYS_pselect6, fd + 1, &readable, NULL, NULL, NULL, NULL) == 1 && FD_ISSET(fd, &readable));
        read_pong(fd);
        struct timespec nothing = {0};
        CHECK(syscall(SYS_ppoll, &entry, 1L, &nothing, NULL, 8L) == 0 && entry.revents == 0);
        CHECK(syscall(SYS_pselect6, fd + 1, &readable, NULL, NULL, &nothing, NULL) == 0 && !FD_ISSET(fd, &readable));
    }
    close(fd);
}

/* ---- copies that the kernel makes ---- */

static void spliced(void) {
    int fd = moved_connection(), ends[2];
    CHECK(pipe(ends) == 0);
    for (int i = 0; i < 20; i++) {
        char buffer[64];
        CHECK(write(ends[1], PING, PING_LENGTH) == PING_LENGTH);
        CHECK(splice(ends[0], NULL, fd, NULL, PING_LENGTH, 0) == PING_LENGTH);
        CHECK(splice(fd, NULL, ends[1], NULL, sizeof buffer, 0) == PONG_LENGTH);
        CHECK(read(ends[0], buffer, sizeof buffer) == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
        CHECK(splice(ends[0], NULL, fd, NULL, PING_LENGTH, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
    }
    close(fd);
}

/* Where a pipe is full, who does not want to wait is told so, and nothing is taken. */
static void spliced_into_a_full_pipe(void) {
    static const char PAGE[4096];
    int fd = moved_connection(), ends[2];
    CHECK(pipe(ends) == 0);
    set_nonblocking(ends[1], 1);
    while (write(ends[1], PAGE, sizeof PAGE) > 0) {}
    send_ping(fd);
    wait_readable(fd);
    CHECK(splice(fd, NULL, ends[1], NULL, 64, 0) == -1 && errno == EAGAIN);
    set_nonblocking(ends[1], 0);
    CHECK(splice(fd, NULL, ends[1], NULL, 64, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN);
    read_pong(fd);
    close(fd);
}

static pid_t server_of(int fd) {
    char head[64], info[16384];
    ask(fd, "INFO server", head, sizeof head);
    size_t length = atol(head + 1) + 2;
    CHECK(head[0] == '$' && length < sizeof info && recv(fd, info, length, MSG_WAITALL) == (ssize_t)length);
    info[length] = 0;
    const char *line = strstr(info, "process_id:");
    CHECK(line);
    return atoi(line + strlen("process_id:"));
}

static volatile pid_t splices;
static int splices_from, splices_to;

static void *splices_once(void *length) {
    splices = gettid();
    return (void *)splice(splices_from, NULL, splices_to, NULL, (size_t)length, 0);
}

static volatile sig_atomic_t interruptions;
static void is_interrupted(int signal) { (void)signal; interruptions++; }

/* A signal comes while there is no room for what is in the pipe: that is not lost. */
static void spliced_and_interrupted(void) {
    int fd = moved_connection(), ends[2];
    pid_t server = server_of(fd);
    struct sigaction action = {.sa_handler = is_interrupted};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && pipe(ends) == 0 && kill(server, SIGSTOP) == 0);
    size_t sent = 0, left;
    ssize_t count;
    while ((count = send(fd, PING + sent % PING_LENGTH, left = PING_LENGTH - sent % PING_LENGTH, MSG_DONTWAIT)) > 0)
        sent += count;
    CHECK(errno == EAGAIN && write(ends[1], PING + PING_LENGTH - left, left) == (ssize_t)left);
    splices_from = ends[0];
    splices_to = fd;
    pthread_t thread;
    void *spliced;
    CHECK(pthread_create(&thread, NULL, splices_once, (void *)left) == 0);
    while (!splices) {}
    wait_until_in(splices, SYS_splice, SYS_recvfrom);
    CHECK(pthread_kill(thread, SIGUSR1) == 0);
    while (!interruptions) {}
    CHECK(kill(server, SIGCONT) == 0 && pthread_join(thread, &spliced) == 0);
    if ((ssize_t)spliced == -1) CHECK(splice(ends[0], NULL, fd, NULL, left, SPLICE_F_NONBLOCK) == (ssize_t)left);
    else CHECK((ssize_t)spliced == (ssize_t)left);
    for (sent += left; sent > 0; sent -= PING_LENGTH) read_pong(fd);
    close(fd);
}

static void sent_from_a_file(void) {
    int fd = moved_connection(), file = made_by_memfd();
    CHECK(write(file, PING, PING_LENGTH) == PING_LENGTH && write(file, PING, PING_LENGTH) == PING_LENGTH);
    for (int i = 0; i < 20; i++) {
        CHECK(lseek(file, 0, SEEK_SET) == 0);
        CHECK(sendfile(fd, file, NULL, PING_LENGTH) == PING_LENGTH);
        CHECK(lseek(file, 0, SEEK_CUR) == PING_LENGTH);
        read_pong(fd);
        off_t at = PING_LENGTH;
        CHECK(sendfile(fd, file, &at, 1000) == PING_LENGTH && at == 2 * PING_LENGTH);
        CHECK(lseek(file, 0, SEEK_CUR) == PING_LENGTH);
        read_pong(fd);
        CHECK(sendfile(fd, file, &at, 1000) == 0);
    }
    close(fd);
    close(file);
}

/* ---- children ---- */

static volatile int has_forked;

static void *asks_for_a_number(void *unused) {
    while (!has_forked) fileno(stdin);
    return unused;
}

/* Whatever another thread is in the middle of when the process forks. */
static void children_ask_for_a_number(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, asks_for_a_number, NULL) == 0);
    for (int i = 0; i < 300; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(fileno(stdout));
        }
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1);
    }
    has_forked = 1;
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- aio ---- */

static ssize_t read_by_aio(int fd, char *buffer, size_t size) {
    struct aiocb block = {.aio_fildes = fd, .aio_buf = buffer, .aio_nbytes = size};
    const struct aiocb *const blocks[] = {&block};
    if (aio_read(&block) != 0) return -1;
    while (aio_error(&block) == EINPROGRESS) CHECK(aio_suspend(blocks, 1, NULL) == 0 || errno == EINTR);
    CHECK(aio_error(&block) == 0);
    return aio_return(&block);
}

/* It stays on its socket, where the C library's own threads can read it. */
static void aio_before_it_moves(void) {
    int fd = open_connection();
    char buffer[64];
    send_ping(fd);
    CHECK(read_by_aio(fd, buffer, sizeof buffer) == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
    settle(fd);
    send_ping(fd);
    CHECK(read_by_aio(fd, buffer, sizeof buffer) == PONG_LENGTH);
    close(fd);
}

/* It comes back to its socket for that. */
static void aio_after_it_moved(void) {
    int fd = moved_connection();
    char buffer[64];
    send_ping(fd);
    CHECK(read_by_aio(fd, buffer, sizeof buffer) == PONG_LENGTH && memcmp(buffer, PONG, PONG_LENGTH) == 0);
    settle(fd);
    send_ping(fd);
    CHECK(read_by_aio(fd, buffer, sizeof buffer) == PONG_LENGTH);
    close(fd);
    /* The next one may be read so: it stays on its socket. */
    fd = moved_connection();
    send_ping(fd);
    CHECK(read_by_aio(fd, buffer, sizeof buffer) == PONG_LENGTH);
    close(fd);
}

/* What another process has of it works as the socket that it is, and what was on its way comes
 * by it. Then none moves any more. */
static void passed_on(void) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, messages) == 0);
    int early = open_connection();
    for (int i = 0; i < 2; i++) {
        int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
        watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN);
        send_ping(fd);
        wait_readable(fd);
        send_ping(fd);
        send_descriptor(fd);
        pid_t child = fork();
        if (child == 0) {
            int passed = made_by_recvmsg();
            read_pong(passed), read_pong(passed);
            settle(passed);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        /* And here as well. */
        settle(fd);
        send_ping(fd);
        CHECK(event_of(epfd, fd) == EPOLLIN);
        read_pong(fd);
        close(epfd), close(fd);
    }
    /* Also one that is there already. */
    settle(early);
    send_descriptor(early);
    close(early);
    early = made_by_recvmsg();
    settle(early);
    close(early);
}

static void *ping_and_count(void *argument) {
    int fd = *(int *)argument;
    for (long i = 0; i < 2000; i++) {
        send_ping(fd);
        read_pong(fd);
    }
    return NULL;
}

/* While another thread talks, and asks for nothing but its replies. */
static void passed_on_meanwhile(void) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, messages) == 0);
    pthread_t thread;
    int fd = moved_connection();
    CHECK(pthread_create(&thread, NULL, ping_and_count, &fd) == 0);
    for (int i = 0; i < 100; i++) usleep(10);
    send_descriptor(fd);
    CHECK(pthread_join(thread, NULL) == 0);
    int passed = made_by_recvmsg();
    close(fd);
    settle(passed);
    close(passed);
}

static volatile pid_t sleeper;

static void *read_one_pong(void *argument) {
    sleeper = gettid();
    read_pong(*(int *)argument);
    return NULL;
}

/* While one thread sleeps until its reply comes. */
static void passed_on_asleep(void) {
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, messages) == 0);
    pthread_t reader;
    int fd = moved_connection();
    CHECK(pthread_create(&reader, NULL, read_one_pong, &fd) == 0);
    while (!sleeper) {}
    wait_until_in(sleeper, SYS_recvfrom, SYS_recvfrom);
    send_descriptor(fd);
    int passed = made_by_recvmsg();
    send_ping(passed);
    CHECK(pthread_join(reader, NULL) == 0);
    close(passed), close(fd);
}

/* An instance that was not seen made, and is waited in unseen, watches it from now on. */
static void told_to_an_unseen_instance(void) {
    int fd = moved_connection(), epfd = unseen(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN);
    for (int i = 0; i < 40; i++) {
        struct epoll_event event;
        send_ping(fd);
        CHECK(unseen(SYS_epoll_pwait, epfd, (long)&event, 1, -1, 0, 8) == 1 && event.events == EPOLLIN);
        read_pong(fd);
    }
    close(epfd), close(fd);
}

/* An instance that two others watch. */
static void told_to_an_instance_of_several(void) {
    int fd = moved_connection(), inner = epoll_create1(EPOLL_CLOEXEC);
    int outer = epoll_create1(EPOLL_CLOEXEC), other = epoll_create1(EPOLL_CLOEXEC);
    watch(outer, EPOLL_CTL_ADD, inner, EPOLLIN);
    watch(other, EPOLL_CTL_ADD, inner, EPOLLIN);
    watch(inner, EPOLL_CTL_ADD, fd, EPOLLIN);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        CHECK(event_of(outer, inner) == EPOLLIN && event_of(other, inner) == EPOLLIN);
        CHECK(event_of(inner, fd) == EPOLLIN);
        read_pong(fd);
    }
    close(other), close(outer), close(inner), close(fd);
}

/* A child that knows nothing of this library talks by it. */
static void standard_input_of_a_child(void) {
    int fd = moved_connection(), replies[2], status;
    CHECK(pipe(replies) == 0);
    int saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
    CHECK(dup2(fd, 0) == 0);
    pid_t child = fork();
    if (child == 0) {
        char *const nothing[] = {NULL};
        char *const command[] = {"sh", "-c", "printf 'PING\\r\\n' >&0 && read reply && echo \"$reply\"", NULL};
        dup2(replies[1], 1);
        execve("/bin/sh", command, nothing);
        _exit(1);
    }
    char reply[16] = "";
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(read(replies[0], reply, sizeof reply) > 5 && strncmp(reply, "+PONG", 5) == 0);
    CHECK(saved < 0 ? close(0) == 0 : dup2(saved, 0) == 0);
    settle(fd);
    close(fd);
}

/* ---- options ---- */

static void available(int fd, int bytes) {
    int count;
    do {
        CHECK(ioctl(fd, FIONREAD, &count) == 0 && count <= bytes);
    } while (count < bytes);
}

/* By TCP: it is readable once it has as many bytes as SO_RCVLOWAT says, or has ended. */
static void least_bytes(void) {
    int fd = moved_connection(), least = PONG_LENGTH + 1, told = 0, epfd = epoll_create1(EPOLL_CLOEXEC);
    socklen_t length = sizeof told;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least) == 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &told, &length) == 0 && told == least);
    watch(epfd, EPOLL_CTL_ADD, fd, EPOLLIN);
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct epoll_event event;
    char buffer[64];
    for (int i = 0; i < 20; i++) {
        send_ping(fd);
        available(fd, PONG_LENGTH);
        CHECK(poll(&entry, 1, 0) == 0);
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0);
        send_ping(fd);
        if (i % 2) CHECK(event_of(epfd, fd) == EPOLLIN);
        else wait_readable(fd);
        available(fd, 2 * PONG_LENGTH);
        CHECK(recv(fd, buffer, 2 * PONG_LENGTH, MSG_WAITALL) == 2 * PONG_LENGTH);
        CHECK(poll(&entry, 1, 0) == 0 && epoll_wait(epfd, &event, 1, 0) == 0);
    }
    CHECK(send(fd, "QUIT\r\n", 6, 0) == 6);
    CHECK(poll(&entry, 1, -1) == 1 && event_of(epfd, fd) & EPOLLIN);
    CHECK(recv(fd, buffer, sizeof buffer, MSG_WAITALL) == 5 && recv(fd, buffer, sizeof buffer, 0) == 0);
    close(fd);
}

static volatile pid_t least_reader;

static void *reads_at_least(void *connection) {
    char buffer[64];
    least_reader = gettid();
    return (void *)recv(*(int *)connection, buffer, sizeof buffer, 0);
}

/* A read that waits, waits for so many. */
static void reads_no_fewer(void) {
    int fd = moved_connection(), other = open_connection(), least = 2 * PONG_LENGTH;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least) == 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        void *count;
        char buffer[64];
        least_reader = 0;
        CHECK(pthread_create(&thread, NULL, reads_at_least, &fd) == 0);
        while (!least_reader) {}
        wait_until_in(least_reader, SYS_recvfrom, SYS_recvfrom);
        send_ping(fd);
        /* The first reply is there by then. */
        for (int j = 0; j < 3; j++) {
            send_ping(other);
            read_pong(other);
        }
        send_ping(fd);
        CHECK(pthread_join(thread, &count) == 0 && (ssize_t)count == 2 * PONG_LENGTH);
        send_ping(fd);
        while (recv(fd, buffer, sizeof buffer, MSG_PEEK | MSG_DONTWAIT) < 0) CHECK(errno == EAGAIN);
        /* Who wants fewer, or does not wait, gets what there is. */
        CHECK(recv(fd, buffer, 1, 0) == 1);
        CHECK(recv(fd, buffer, sizeof buffer, MSG_DONTWAIT) == PONG_LENGTH - 1);
    }
    close(fd);
    close(other);
}

/* ---- sent is sent ---- */

/* A connection that stays on its socket: to an address that nobody has named. */
static int open_observer(void) {
    int fd = open_connection();
    char words[256];
    CHECK(send(fd, "CONFIG GET port\r\n", 17, 0) == 17);
    size_t have = 0;
    do {
        ssize_t count = recv(fd, words + have, sizeof words - 1 - have, 0);
        CHECK(count > 0);
        words[have += count] = 0;
    } while (have < 10 || !strstr(words, "port\r\n$") || strcmp(words + have - 2, "\r\n") != 0);
    close(fd);
    int port = 0;
    CHECK(sscanf(strstr(words, "port\r\n$") + 7, "%*d %d", &port) == 1 && port > 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    int observer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(observer, (struct sockaddr *)&address, sizeof address) == 0);
    return observer;
}

static int wake_up[2];

static void then_sleeps(void) {
    char byte;
    CHECK(read(wake_up[0], &byte, 1) == 1);
    _exit(0);
}

static void then_another_program(void) {
    execlp("true", "true", NULL);
    _exit(127);
}

static void then_no_more(void) { _exit(0); }
static void then_terminated(void) { kill(getpid(), SIGTERM); }
static void then_killed(void) { kill(getpid(), SIGKILL); }

/* What was sent is executed, once, though its sender never does anything with the connection
 * again: before it moves, while it does, and after. */
static void sent(void (*then)(void)) {
    static const int BEFORE[] = {16, 16, 17, 18, 40};
    int observer = open_observer(), status;
    CHECK(pipe(wake_up) == 0);
    for (int round = 1; round <= 20; round++) {
        pid_t child = fork();
        if (child == 0) {
            int fd = open_connection();
            for (int i = 0; i < BEFORE[round % 5]; i++) {
                send_ping(fd);
                read_pong(fd);
            }
            CHECK(send(fd, "INCR sent\r\n", 11, 0) == 11);
            then();
            _exit(1);
        }
        /* If it is lost, this goes on until the test is given up. */
        while (ask_number(observer, "INCRBY sent 0") < round) {}
        CHECK(ask_number(observer, "INCRBY sent 0") == round);
        if (then == then_sleeps) CHECK(write(wake_up[1], "x", 1) == 1);
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) ? then == then_terminated || then == then_killed : status == 0);
        CHECK(ask_number(observer, "INCRBY sent 0") == round);
    }
    close(observer);
}

static void sent_before_a_sleep(void) { sent(then_sleeps); }
static void sent_before_exec(void) { sent(then_another_program); }
static void sent_before_exit(void) { sent(then_no_more); }
static void sent_before_sigterm(void) { sent(then_terminated); }
static void sent_before_sigkill(void) { sent(then_killed); }

/* ---- the server's process ends ---- */

static void by_dont_wait(int fd) {
    char byte;
    CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
}

static void by_peek(int fd) {
    char byte;
    CHECK(recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0);
}

static void by_read(int fd) {
    char byte;
    set_nonblocking(fd, 1);
    CHECK(read(fd, &byte, 1) == 0);
}

/* The kinds of sockets differ in this. */
static void by_poll(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    short hang_up = path[0] == '/' ? POLLHUP : 0;
    CHECK(poll(&entry, 1, 0) == 1 && entry.revents == (POLLIN | POLLOUT | POLLRDHUP | hang_up));
}

/* By TCP the first write goes out. */
static void by_write(int fd) {
    if (path[0] != '/') send_ping(fd);
    for (int i = 0; i < 3; i++) CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == -1 && errno == EPIPE);
}

/* Until the clock has ticked: what was known before is no news then. */
static void wait_for_a_tick(void) {
    struct timespec before, now;
    CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &before) == 0);
    do {
        CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0);
    } while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec);
}

/* Says that it waits, and is told when the server is gone. */
static void the_server_is_gone(void) {
    void (*const look[])(int) = {by_dont_wait, by_peek, by_read, by_poll};
    enum { WAYS = sizeof look / sizeof *look };
    int fds[WAYS], writes = moved_connection();
    for (int i = 0; i < WAYS; i++) fds[i] = moved_connection();
    puts("waiting");
    fflush(stdout);
    CHECK(getchar() == '\n');
    wait_for_a_tick();
    by_write(writes);
    by_dont_wait(writes);
    close(writes);
    /* Each connection is looked at in another way first, then in all of them. */
    for (int i = 0; i < WAYS; i++) {
        for (int again = 0; again < 3; again++) look[i](fds[i]);
        for (int other = 0; other < WAYS; other++) look[other](fds[i]);
        by_write(fds[i]);
        by_dont_wait(fds[i]);
        close(fds[i]);
    }
}

static const struct test TESTS[] = {
    TEST(waited_for_by_a_duplicate), TEST(another_thread_fills_the_ring), TEST(added_before_it_connects),
    TEST(changed_once_it_is_connected), TEST(shared_exclusively), TEST(deleted_and_added_around_each_event),
    TEST(two_thousand_are_idle), TEST(waited_for_unseen), TEST(replaced_unseen), TEST(read_after_unseen_polls), TEST(closed_unseen),
    TEST(closed_unseen_and_watched), TEST(looked_at_meanwhile),
    TEST(ended_and_closed_unseen), TEST(number_of_something_watched), TEST(space_after_reading_has_ended),
    TEST(unread_when_reading_ends),
    TEST(space_for_each_instance), TEST(sent_beside_the_question),
    TEST(closed_by_syscall), TEST(closed_in_a_loop), TEST(closed_by_fclose),
    TEST(talks_by_a_stream), TEST(other_names), TEST(other_names_of_calls), TEST(waited_for_by_syscall),
    TEST(polled_by_syscall), TEST(spliced), TEST(spliced_into_a_full_pipe), TEST(spliced_and_interrupted),
    TEST(children_ask_for_a_number), TEST(sent_from_a_file), TEST(aio_before_it_moves),
    TEST(aio_after_it_moved), TEST(passed_on), TEST(passed_on_meanwhile), TEST(passed_on_asleep),
    TEST(told_to_an_unseen_instance), TEST(told_to_an_instance_of_several), TEST(standard_input_of_a_child), TEST(least_bytes), TEST(reads_no_fewer), TEST(sent_before_a_sleep), TEST(sent_before_exec),
    TEST(sent_before_exit), TEST(sent_before_sigterm), TEST(sent_before_sigkill), TEST(the_server_is_gone),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
