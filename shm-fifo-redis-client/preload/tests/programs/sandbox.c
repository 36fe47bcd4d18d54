/* What a program may forbid itself, or do to all its descriptors and to its threads: the same
 * with the preloaded library as without. */
#include "traffic.h"

#include <dirent.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static int any_file(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

/* ---- system calls that are forbidden ---- */

static void forbid(const int *calls, size_t count, unsigned answer, int by_prctl) {
    struct sock_filter code[2 * 32 + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short length = 1;
    for (size_t i = 0; i < count; i++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {length, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (by_prctl) {
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    } else {
        CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
    }
}

/* What moving and waiting for what moved takes, and pings on a socket do not. */
static const int OF_A_MOVE[] = {
    SYS_recvmsg, SYS_eventfd2, SYS_shutdown, SYS_getsockopt, SYS_fcntl,
#if defined __x86_64__ && defined __GLIBC__
    SYS_epoll_create1, SYS_epoll_pwait, SYS_ppoll,
#endif
};

/* From before the program's beginning, as a service manager does it. */
static void forbidden_beforehand(void) {
    for (size_t i = 0; i < COUNT(OF_A_MOVE); i++) {
        static const int ANSWERS[] = {EPERM, ENOSYS};
        int child = fork();
        if (child == 0) {
            forbid(&OF_A_MOVE[i], 1, SECCOMP_RET_ERRNO | ANSWERS[i % 2], 1);
            dup2(any_file(), 1);
            execl("/proc/self/exe", "sandbox", path, "traffic", NULL);
            _exit(127);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) fprintf(stderr, "without system call %d\n", OF_A_MOVE[i]);
        CHECK(status == 0);
    }
}

static void forbid_itself(int by_prctl) {
    int quiet = open_connection(), fd = open_connection();
    send_ping(fd);
    read_pong(fd);
    forbid(OF_A_MOVE, COUNT(OF_A_MOVE), SECCOMP_RET_KILL_PROCESS, by_prctl);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        read_pong(fd);
        send_ping(quiet);
        read_pong(quiet);
    }
    FILE *file = fopen("/proc/self/stat", "r");
    CHECK(file != NULL && fgetc(file) != EOF && fclose(file) == 0);
    int later = open_connection();
    for (int i = 0; i < 40; i++) {
        send_ping(later);
        read_pong(later);
    }
}

static void forbids_itself(void) { forbid_itself(1); }

static void forbids_itself_by_syscall(void) { forbid_itself(0); }

/* ---- descriptors ---- */

static void limit_descriptors(int count) {
    struct rlimit limit = {count, count};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void no_descriptor_left(void) {
    limit_descriptors(64);
    int epfd = epoll_create1(EPOLL_CLOEXEC), fd = open_connection();
    while (any_file() >= 0) {}
    CHECK(errno == EMFILE);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0);
    for (int i = 0; i < 40; i++) {
        send_ping(fd);
        CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
        read_pong(fd);
    }
}

static int kept;

static void close_each(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int fd = 3; fd < (int)limit.rlim_cur; fd++) {
        if (fd != kept) close(fd);
    }
}

static void close_those_that_are_listed(void) {
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != kept && fd != dirfd(directory)) close(fd);
    }
    closedir(directory);
}

static void close_by_syscall(void) {
    CHECK(syscall(SYS_close_range, 3, kept - 1, 0) == 0);
    CHECK(syscall(SYS_close_range, kept + 1, ~0U, 0) == 0);
}

/* All but a connection, which lives on, and the lowest numbers are free. */
static void closed_in_every_way(void) {
    void (*const ways[])(void) = {close_each, close_those_that_are_listed, close_by_syscall};
    for (size_t i = 0; i < COUNT(ways); i++) {
        for (int has_moved = 0; has_moved < 2; has_moved++) {
            int below = any_file();
            kept = open_connection();
            if (has_moved) settle(kept);
            ways[i]();
            int epfd = epoll_create1(EPOLL_CLOEXEC);
            CHECK(epfd == below);
            struct epoll_event event = {.events = EPOLLIN};
            CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, kept, &event) == 0);
            for (int round = 0; round < 40; round++) {
                send_ping(kept);
                CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
                read_pong(kept);
            }
            int above = any_file();
            CHECK(above == kept + 1);
            ways[i]();
            CHECK(any_file() == below);
            settle(kept);
            close(kept);
            close_each();
        }
    }
}

/* ---- threads ---- */

static int quiet_pipe[2], quiet_pair[2];
static int cleaned_up;

static void clean_up(void *nothing) {
    (void)nothing;
    cleaned_up++;
}

static void wait_by_read(void) {
    char byte;
    while (read(quiet_pipe[0], &byte, 1)) {}
}

static void wait_by_recvmsg(void) {
    char byte;
    struct iovec span = {&byte, 1};
    struct msghdr message = {.msg_iov = &span, .msg_iovlen = 1};
    while (recvmsg(quiet_pair[0], &message, 0)) {}
}

static void wait_by_write(void) {
    static char bytes[1 << 16];
    while (write(quiet_pair[1], bytes, sizeof bytes)) {}
}

static void wait_by_poll(void) {
    struct pollfd entry = {.fd = quiet_pipe[0], .events = POLLIN};
    while (poll(&entry, 1, -1)) {}
}

static void wait_by_epoll(void) {
    struct epoll_event event;
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    while (epoll_wait(epfd, &event, 1, -1)) {}
}

static void *until_cancelled(void *wait) {
    pthread_cleanup_push(clean_up, NULL);
    (*(void (**)(void))wait)();
    pthread_cleanup_pop(0);
    return NULL;
}

/* Cancelling unwinds the thread's stack, through what it is waiting in. */
static void cancelled_threads(void) {
    CHECK(pipe(quiet_pipe) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, quiet_pair) == 0);
    /* The library is awake. */
    moved_connection();
    void (*waits[])(void) = {wait_by_read, wait_by_recvmsg, wait_by_write, wait_by_poll, wait_by_epoll};
    for (size_t i = 0; i < COUNT(waits); i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, until_cancelled, &waits[i]) == 0);
        CHECK(pthread_cancel(thread) == 0);
        void *result;
        CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
        CHECK(cleaned_up == (int)i + 1);
    }
}

static void *talk(void *nothing) {
    traffic();
    return nothing;
}

/* As small as a thread's stack may be. musl would have a quarter of that. */
#ifdef __GLIBC__
#define SMALLEST_STACK PTHREAD_STACK_MIN
#else
#define SMALLEST_STACK 8192
#endif
static void smallest_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, SMALLEST_STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, talk, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static const struct test TESTS[] = {
    TEST(traffic), TEST(forbidden_beforehand), TEST(forbids_itself), TEST(forbids_itself_by_syscall),
    TEST(no_descriptor_left), TEST(closed_in_every_way), TEST(cancelled_threads),
    TEST(smallest_stack),
};

int main(int argc, char **argv) { return run_test(argc, argv, TESTS, COUNT(TESTS)); }
