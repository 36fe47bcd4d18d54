/* Signal handlers, beside connections that have moved: they call whatever is
 * async-signal-safe, at any moment, and are called as the program has installed them.
 * The same is seen with and without the preloaded library. */
#include "talk.h"

#include <sys/syscall.h>

/* ---- called at any moment ---- */

enum { RUNS = 3000 };

static volatile sig_atomic_t runs;
static int talked_to, asleep_on, ends[2];
static size_t outstanding;

/* Looks at connections and at something else, and talks. */
static void look_and_talk(int signal) {
    (void)signal;
    int before = errno;
    char buffer[64];
    struct pollfd entries[] = {{.fd = ends[0], .events = POLLIN}, {.fd = talked_to, .events = POLLIN},
                               {.fd = asleep_on, .events = POLLIN}};
    struct timeval nothing = {0};
    fd_set readable;
    FD_ZERO(&readable);
    FD_SET(ends[0], &readable);
    FD_SET(talked_to, &readable);
    int most = talked_to > ends[0] ? talked_to : ends[0];
    CHECK(poll(entries, 3, 0) >= 0 && entries[2].revents == 0);
    CHECK(select(most + 1, &readable, NULL, NULL, &nothing) >= 0);
    CHECK(write(ends[1], "x", 1) == 1 && read(ends[0], buffer, 1) == 1);
    CHECK(read(asleep_on, buffer, 1) == -1 && errno == EAGAIN);
    if (outstanding == 0) {
        CHECK(write(talked_to, PING, PING_LENGTH) == PING_LENGTH);
        outstanding = PONG_LENGTH;
    }
    ssize_t count = recv(talked_to, buffer, outstanding, MSG_DONTWAIT);
    CHECK(count > 0 || (count == -1 && errno == EAGAIN));
    if (count > 0) outstanding -= count;
    runs++;
    errno = before;
}

static void allocate_and_free(size_t seed) {
    void *blocks[64];
    for (size_t i = 0; i < 64; i++) blocks[i] = malloc((seed + i) * 7919 % 60000 + 100);
    for (size_t i = 0; i < 64; i++) free(blocks[i]);
}

static void *allocates(void *unused) {
    for (size_t i = 0; runs < RUNS; i++) allocate_and_free(i);
    return unused;
}

/* While the program allocates, in so many threads, none of which is in a call of ours. */
static void while_it_allocates(int threads) {
    asleep_on = moved_connection();
    talked_to = moved_connection();
    set_nonblocking(asleep_on, 1);
    CHECK(pipe(ends) == 0);
    pthread_t other;
    sigset_t all, before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, &before) == 0);
    if (threads > 1) CHECK(pthread_create(&other, NULL, allocates, NULL) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    struct sigaction action = {.sa_handler = look_and_talk};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {.it_value.tv_usec = 200, .it_interval.tv_usec = 200};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    allocates(NULL);
    timer = (struct itimerval){0};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    if (threads > 1) CHECK(pthread_join(other, NULL) == 0);
    set_nonblocking(asleep_on, 0);
    settle(asleep_on);
}

static void while_a_thread_allocates(void) { while_it_allocates(1); }
static void while_two_threads_allocate(void) { while_it_allocates(2); }

/* While the program forks, in the C library. A child begins as if no signal had come. */
static void while_it_forks(void) {
    asleep_on = moved_connection();
    talked_to = moved_connection();
    set_nonblocking(asleep_on, 1);
    CHECK(pipe(ends) == 0);
    struct sigaction action = {.sa_handler = look_and_talk};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {.it_value.tv_usec = 200, .it_interval.tv_usec = 200};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    for (int i = 0; i < 500; i++) {
        pid_t child = fork();
        if (child == 0) {
            sigset_t blocked;
            CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGTERM));
            _exit(0);
        }
        int status;
        while (waitpid(child, &status, 0) == -1) CHECK(errno == EINTR);
        CHECK(status == 0);
    }
    timer = (struct itimerval){0};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    CHECK(runs > 0);
    set_nonblocking(asleep_on, 0);
    settle(asleep_on);
}

/* While the program itself talks, on another connection. */
static void while_it_talks(void) {
    asleep_on = moved_connection();
    talked_to = moved_connection();
    int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    set_nonblocking(asleep_on, 1);
    CHECK(pipe(ends) == 0);
    struct sigaction action = {.sa_handler = look_and_talk, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval timer = {.it_value.tv_usec = 200, .it_interval.tv_usec = 200};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    for (size_t i = 0; runs < RUNS; i++) {
        int passing = open_connection();
        send_ping(fd);
        while (epoll_wait(epfd, &event, 1, -1) != 1) CHECK(errno == EINTR);
        read_pong(fd);
        send_ping(passing);
        read_pong(passing);
        close(passing);
    }
    timer = (struct itimerval){0};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* ---- called as installed ---- */

static volatile sig_atomic_t calls, depth, deepest, value_told, sender_told, was_blocked;

static void counts(int signal) {
    (void)signal;
    calls++;
}

static void is_told(int signal, siginfo_t *info, void *context) {
    CHECK(signal == info->si_signo && context);
    value_told = info->si_value.sival_int;
    sender_told = info->si_code == SI_QUEUE && info->si_pid == getpid();
}

static void nests(int signal) {
    sigset_t mask;
    depth++;
    if (depth > deepest) deepest = depth;
    if (++calls < 3) CHECK(raise(signal) == 0);
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
    was_blocked = sigismember(&mask, SIGHUP);
    depth--;
}

static void what_was_installed_is_told(void) {
    int fd = moved_connection();
    struct sigaction first = {.sa_sigaction = is_told, .sa_flags = SA_SIGINFO | SA_RESTART}, second, old;
    sigaddset(&first.sa_mask, SIGHUP);
    CHECK(sigaction(SIGUSR1, &first, &old) == 0 && old.sa_handler == SIG_DFL);
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0);
    CHECK(old.sa_sigaction == is_told && (old.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER | (int)SA_RESETHAND)) == (SA_SIGINFO | SA_RESTART));
    CHECK(sigismember(&old.sa_mask, SIGHUP) == 1 && sigismember(&old.sa_mask, SIGINT) == 0);
    second = (struct sigaction){.sa_handler = counts, .sa_flags = SA_NODEFER};
    CHECK(sigaction(SIGUSR1, &second, &old) == 0 && old.sa_sigaction == is_told);
    CHECK(sigaction(SIGUSR1, &old, &second) == 0 && second.sa_handler == counts && second.sa_flags & SA_NODEFER);
    CHECK(signal(SIGUSR1, SIG_IGN) == (sighandler_t)(void *)is_told);
    CHECK(raise(SIGUSR1) == 0);
    CHECK(signal(SIGUSR1, counts) == SIG_IGN && signal(SIGUSR1, counts) == counts);
    CHECK(raise(SIGUSR1) == 0 && calls == 1);
    CHECK(sigaction(SIGUSR1, NULL, &old) == 0 && old.sa_handler == counts && old.sa_flags & SA_RESTART);
    CHECK(signal(SIGUSR1, SIG_DFL) == counts && signal(SIGUSR1, SIG_DFL) == SIG_DFL);
    CHECK(signal(SIGKILL, counts) == SIG_ERR && errno == EINVAL);
    CHECK(sigaction(12345, &first, NULL) == -1 && errno == EINVAL);
    settle(fd);
    close(fd);
}

static void reset_after_one_call(void) {
    int fd = moved_connection();
    struct sigaction action = {.sa_handler = counts, .sa_flags = SA_RESETHAND}, now;
    CHECK(sigaction(SIGURG, &action, NULL) == 0 && raise(SIGURG) == 0 && calls == 1);
    CHECK(sigaction(SIGURG, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    /* By default this signal is ignored. */
    CHECK(raise(SIGURG) == 0 && calls == 1);
#ifdef __GLIBC__
    CHECK(sysv_signal(SIGURG, counts) == SIG_DFL && raise(SIGURG) == 0 && calls == 2);
#endif
    CHECK(signal(SIGURG, counts) == SIG_DFL);
    settle(fd);
    close(fd);
}

static void told_of_its_sender(void) {
    int fd = moved_connection();
    struct sigaction action = {.sa_sigaction = is_told, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGRTMIN + 1, &action, NULL) == 0);
    for (int i = 1; i <= 20; i++) {
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}) == 0);
        CHECK(value_told == i && sender_told);
        settle(fd);
    }
    close(fd);
}

/* With SA_NODEFER it interrupts itself, else it does not. What it masks is masked. */
static void deferred_or_not(void) {
    int fd = moved_connection();
    for (int nodefer = 0; nodefer < 2; nodefer++) {
        struct sigaction action = {.sa_handler = nests, .sa_flags = nodefer ? SA_NODEFER : 0};
        sigaddset(&action.sa_mask, SIGHUP);
        calls = deepest = was_blocked = 0;
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0);
        CHECK(calls == 3 && depth == 0 && deepest == (nodefer ? 3 : 1) && was_blocked == 1);
    }
    settle(fd);
    close(fd);
}

static volatile pid_t reads;
static volatile int read_errno;

static void *reads_once(void *connection) {
    char buffer[64];
    reads = gettid();
    ssize_t count = recv(*(int *)connection, buffer, sizeof buffer, 0);
    read_errno = errno;
    return (void *)count;
}

/* A read that waits is interrupted by a signal, or goes on after it. */
static void interrupted(int flags) {
    int fd = moved_connection();
    struct sigaction action = {.sa_handler = counts, .sa_flags = flags};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int round = 1; round <= 20; round++) {
        pthread_t thread;
        void *count;
        reads = 0;
        CHECK(pthread_create(&thread, NULL, reads_once, &fd) == 0);
        while (!reads) {}
        wait_until_in(reads, SYS_recvfrom, SYS_recvfrom);
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        while (calls < round) {}
        if (flags & SA_RESTART) send_ping(fd);
        CHECK(pthread_join(thread, &count) == 0);
        if (flags & SA_RESTART) CHECK((ssize_t)count == PONG_LENGTH);
        else CHECK((ssize_t)count == -1 && read_errno == EINTR);
        settle(fd);
    }
    close(fd);
}

static void interrupts_a_read(void) { interrupted(0); }
static void restarts_a_read(void) { interrupted(SA_RESTART); }

/* What is ready goes before signals, however many come: here it is a pipe, beside a connection
 * on which nothing comes. */
static void ready_before_signals(void) {
    int fd = moved_connection(), epfd = epoll_create1(EPOLL_CLOEXEC), pair[2];
    struct sigaction action = {.sa_handler = counts};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
    CHECK(pipe(pair) == 0 && write(pair[1], "x", 1) == 1);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0 && epoll_ctl(epfd, EPOLL_CTL_ADD, pair[0], &event) == 0);
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int round = 0; round < 20000; round++) {
        struct pollfd entries[] = {{.fd = fd, .events = POLLIN}, {.fd = pair[0], .events = POLLIN}};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(fd, &readable);
        FD_SET(pair[0], &readable);
        char byte;
        CHECK(read(pair[0], &byte, 1) == 1);
        CHECK(epoll_wait(epfd, &event, 1, 0) == 0 || errno == EINTR);
        CHECK(write(pair[1], &byte, 1) == 1);
        CHECK(poll(entries, 2, round % 2 - 1) == 1);
        CHECK(select((pair[0] > fd ? pair[0] : fd) + 1, &readable, NULL, NULL, NULL) == 1);
        CHECK(epoll_wait(epfd, &event, 1, round % 2 - 1) == 1);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    close(epfd);
    close(fd);
}

static volatile int has_read;

static void *reads_all(void *connection) {
    char buffer[64];
    ssize_t count = recv(*(int *)connection, buffer, sizeof buffer, MSG_WAITALL);
    has_read = 1;
    return (void *)count;
}

/* A read that waits for more than there is ends with what it has. */
static void ends_a_read_of_all(void) {
    int fd = moved_connection();
    struct sigaction action = {.sa_handler = counts, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        void *count;
        has_read = 0;
        CHECK(pthread_create(&thread, NULL, reads_all, &fd) == 0);
        send_ping(fd);
        /* Before the reply has come it goes on. */
        while (!has_read) {
            CHECK(pthread_kill(thread, SIGUSR1) == 0);
            sched_yield();
        }
        CHECK(pthread_join(thread, &count) == 0 && (ssize_t)count == PONG_LENGTH);
    }
    settle(fd);
    close(fd);
}

/* ---- a signal when something comes ---- */

static void set_async(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC) == 0);
}

static void set_async_by_ioctl(int fd, int on) { CHECK(ioctl(fd, FIOASYNC, &on) == 0); }

/* Reads the reply when signals say so. There may be more of them, as on any socket. */
static void read_pong_at_signals(int fd, const sigset_t *signals) {
    char buffer[64];
    ssize_t count;
    do {
        CHECK(sigwaitinfo(signals, NULL) == SIGIO);
        count = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        CHECK(count == PONG_LENGTH || (count == -1 && errno == EAGAIN));
    } while (count < 0);
}

static void signalled(void (*set)(int fd, int on)) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    CHECK(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    int fd = moved_connection();
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0);
    for (int round = 0; round < 3; round++) {
        set(fd, 1);
        CHECK(fcntl(fd, F_GETFL) & O_ASYNC);
        for (int i = 0; i < 20; i++) {
            send_ping(fd);
            read_pong_at_signals(fd, &signals);
        }
        set(fd, 0);
        CHECK(!(fcntl(fd, F_GETFL) & O_ASYNC));
        settle(fd);
        /* Those that nobody has waited for. */
        struct timespec nothing = {0};
        while (sigtimedwait(&signals, NULL, &nothing) == SIGIO) {}
        settle(fd);
        CHECK(sigtimedwait(&signals, NULL, &nothing) == -1 && errno == EAGAIN);
    }
    close(fd);
}

static void signalled_by_fcntl(void) { signalled(set_async); }
static void signalled_by_ioctl(void) { signalled(set_async_by_ioctl); }

/* From its start: it stays on its socket. */
static void signalled_from_the_start(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    CHECK(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    int fd = open_connection();
    CHECK(fcntl(fd, F_SETOWN, getpid()) == 0);
    set_async(fd, 1);
    for (int i = 0; i < 60; i++) {
        send_ping(fd);
        read_pong_at_signals(fd, &signals);
    }
    close(fd);
}

static const struct test TESTS[] = {
    TEST(while_a_thread_allocates), TEST(while_two_threads_allocate), TEST(while_it_forks), TEST(while_it_talks),
    TEST(what_was_installed_is_told), TEST(reset_after_one_call), TEST(told_of_its_sender), TEST(deferred_or_not),
    TEST(ready_before_signals), TEST(interrupts_a_read), TEST(restarts_a_read), TEST(ends_a_read_of_all), TEST(signalled_by_fcntl), TEST(signalled_by_ioctl),
    TEST(signalled_from_the_start),
};

int main(int argc, char **argv) {
    return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS);
}
