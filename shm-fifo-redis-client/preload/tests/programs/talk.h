/* What the programs that are run with and without the preloaded library share:
 * connections, pings, and a main that runs one test by its name. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "line %d: %s (errno %d: %s)\n", __LINE__, #condition, \
                    errno, strerror(errno));                                      \
            _exit(1);                                                             \
        }                                                                         \
    } while (0)

static const char *path;
static const char PING[] = "*1\r\n$4\r\nPING\r\n";
static const char PONG[] = "+PONG\r\n";
enum { PING_LENGTH = sizeof PING - 1, PONG_LENGTH = sizeof PONG - 1 };

/* By TCP, where the path is a port. */
static int open_tcp_connection(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(path)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static int open_connection(void) {
    if (path[0] != '/') return open_tcp_connection();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

static void send_ping(int fd) { CHECK(send(fd, PING, PING_LENGTH, MSG_NOSIGNAL) == PING_LENGTH); }

static void read_pong(int fd) {
    char buffer[64];
    size_t have = 0;
    while (have < PONG_LENGTH) {
        ssize_t count = recv(fd, buffer + have, PONG_LENGTH - have, 0);
        CHECK(count > 0);
        have += count;
    }
    CHECK(memcmp(buffer, PONG, PONG_LENGTH) == 0);
}

static void settle_times(int fd, int times) {
    for (int i = 0; i < times; i++) {
        send_ping(fd);
        read_pong(fd);
    }
}

/* Far more commands than a connection moves after. */
static void settle(int fd) { settle_times(fd, 40); }

static inline int moved_connection(void) {
    int fd = open_connection();
    settle(fd);
    return fd;
}

static inline void wait_readable(int fd) {
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    CHECK(poll(&entry, 1, -1) == 1 && entry.revents == POLLIN);
}

static inline void set_nonblocking(int fd, int on) {
    int flags = fcntl(fd, F_GETFL);
    CHECK(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

static inline int is_preloaded(void) { return getenv("SHM_FIFO_ENDPOINTS") != NULL; }

/* Keeps the server busy for about as many milliseconds: it reads nothing meanwhile. */
static inline void occupy_server(int fd, int ms) {
    char script[300], command[400];
    int length = snprintf(script, sizeof script,
        "local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end "
        "local till = now() + %d while now() < till do end return 1", ms);
    length = snprintf(command, sizeof command,
        "*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n", length, script);
    CHECK(send(fd, command, length, 0) == length);
}

/* Sends an inline command and reads the one line that answers it. */
static inline void ask(int fd, const char *command, char *answer, size_t size) {
    char line[256];
    int length = snprintf(line, sizeof line, "%s\r\n", command);
    CHECK(send(fd, line, length, MSG_NOSIGNAL) == length);
    size_t have = 0;
    do {
        CHECK(have + 1 < size && recv(fd, answer + have, 1, 0) == 1);
    } while (answer[have++] != '\n');
    answer[have] = 0;
}

static inline long ask_number(int fd, const char *command) {
    char answer[64];
    ask(fd, command, answer, sizeof answer);
    CHECK(answer[0] == ':');
    return atol(answer + 1);
}

/* Until that thread is in this system call, or in this other one. */
static inline void wait_until_in(pid_t thread, long call, long other) {
    char name[64], line[32];
    do {
        sprintf(name, "/proc/self/task/%d/syscall", thread);
        FILE *file = fopen(name, "r");
        if (!file || !fgets(line, sizeof line, file)) line[0] = 0;
        if (file) fclose(file);
    } while (line[0] < '0' || line[0] > '9' || (atoi(line) != call && atoi(line) != other));
}

struct test { const char *name; void (*run)(void); };
#define TEST(name) {#name, name}

/* Usage: PROGRAM SOCKET NAME. Prints that it passed. */
static int run_test(int argc, char **argv, const struct test *tests, size_t count) {
    CHECK(argc == 3);
    path = argv[1];
    for (size_t i = 0; i < count; i++) {
        if (strcmp(argv[2], tests[i].name) == 0) {
            tests[i].run();
            puts("passed");
            return 0;
        }
    }
    fprintf(stderr, "no test %s\n", argv[2]);
    return 2;
}
