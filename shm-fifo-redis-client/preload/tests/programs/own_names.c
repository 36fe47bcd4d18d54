/* A program whose own functions have the names of the C library's: of some it stands before
 * those itself, as Erlang's virtual machine does, others have nothing to do with them. */
#include "traffic.h"

#include <dlfcn.h>

typedef int (*installs)(int, const struct sigaction *, struct sigaction *);

static int passed_on;

static int next_one(const char *name, int signal, const struct sigaction *new,
                    struct sigaction *old) {
    CHECK(++passed_on < 1000);
    return ((installs)dlsym(RTLD_NEXT, name))(signal, new, old);
}

int sigaction(int signal, const struct sigaction *new, struct sigaction *old) {
    return next_one("sigaction", signal, new, old);
}

int __sigaction(int signal, const struct sigaction *new, struct sigaction *old) {
    return next_one("__sigaction", signal, new, old);
}

/* Whoever gets one of these has not meant it. */
#define OWN(name)                                                   \
    void own_##name(void) __asm__(#name);                           \
    void own_##name(void) {                                         \
        static const char said[] = "the program's own " #name "\n"; \
        fputs(said, stderr);                                        \
        _exit(1);                                                   \
    }
OWN(read)
OWN(write)
OWN(fcntl)
OWN(ioctl)
OWN(dup)
OWN(select)
OWN(prctl)
OWN(shutdown)

static volatile sig_atomic_t handled;

static void handler(int signal) {
    (void)signal;
    handled++;
}

static void stands_before_handlers(void) {
    struct sigaction action = {.sa_handler = handler};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(__sigaction(SIGUSR2, &action, NULL) == 0);
    traffic();
    raise(SIGUSR1);
    raise(SIGUSR2);
    CHECK(handled == 2 && passed_on == 2);
}

ssize_t __read(int fd, void *buffer, size_t size);
int __fcntl(int fd, int command, ...);

/* Calls of the C library by names that the program has not taken. */
static void has_nothing_to_do_with_them(void) {
    int fd = moved_connection();
    int copy = __fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CHECK(copy > fd);
    send_ping(copy);
    char buffer[PONG_LENGTH];
    CHECK(__read(copy, buffer, sizeof buffer) == PONG_LENGTH);
    CHECK(memcmp(buffer, PONG, PONG_LENGTH) == 0);
    close(copy);
    traffic();
    close(fd);
}

static const struct test TESTS[] = {TEST(stands_before_handlers), TEST(has_nothing_to_do_with_them)};

int main(int argc, char **argv) { return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS); }
