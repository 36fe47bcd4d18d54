/*
 * A client written from docs/protocol.md and docs/layout.md alone, with nothing of
 * this project's code: where it does not work, those pages are wrong.
 *
 *     documented_client unix PATH
 *     documented_client tcp PORT
 *
 * It stores no message inline, as the layout allows.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "line %d: not so: %s (%s)\n", __LINE__, #condition,     \
                    strerror(errno));                                               \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

/* "The FIFO header": offsets. */
enum {
    TAIL = 56,
    PRODUCER_CLOSED = 64,
    HEAD = 128,
    CONSUMER_CLOSED = 136,
    CONSUMER_PARKED = 256,
    PRODUCER_PARKED = 384
};

/* "The region": offsets. */
enum { TO_CREATOR_HEADER = 1024, TO_ATTACHER_HEADER = 1536, RINGS = 4096 };

static uint8_t *region;
static uint64_t ring_bytes; /* loaded once */
static int sock;
static char proof[33]; /* over TCP the token that the answer to SHM.OPEN names */

/* Private copies of our own positions, and of the last that we saw of the server's. */
static uint64_t my_tail, seen_head;
static uint64_t my_head, seen_tail;

static uint64_t *word64(size_t header, size_t offset) {
    return (uint64_t *)(region + header + offset);
}

static uint32_t *word32(size_t header, size_t offset) {
    return (uint32_t *)(region + header + offset);
}

static void ring_doorbell(void) { send(sock, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT); }

/* Whether the server ended while we slept. */
static int sleep_on_socket(void) {
    char bytes[256];
    ssize_t i, count = recv(sock, bytes, sizeof(bytes), 0);
    CHECK(count >= 0);
    for (i = 0; i < count; i++)
        CHECK(bytes[i] == 0);
    return count == 0;
}

/* "What each side keeps in private memory": how many bytes there are to read. */
static uint64_t available(void) {
    uint64_t tail = __atomic_load_n(word64(TO_ATTACHER_HEADER, TAIL), __ATOMIC_ACQUIRE);
    uint64_t count = tail - my_head;
    CHECK(count <= ring_bytes && count >= seen_tail - my_head);
    seen_tail = tail;
    return count;
}

static uint64_t space(void) {
    uint64_t head = __atomic_load_n(word64(TO_CREATOR_HEADER, HEAD), __ATOMIC_ACQUIRE);
    uint64_t used = my_tail - head;
    CHECK(used <= ring_bytes && used <= my_tail - seen_head);
    seen_head = head;
    return ring_bytes - used;
}

/* "In the order that matters": the one who publishes. */
static void ring_if_parked(uint32_t *parked) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(parked, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(parked, 0, __ATOMIC_RELAXED);
        ring_doorbell();
    }
}

static void write_ring(const char *bytes, size_t count) {
    uint8_t *ring = region + RINGS;
    while (count > 0) {
        uint64_t i, part = space();
        uint32_t *parked = word32(TO_CREATOR_HEADER, PRODUCER_PARKED);
        if (part == 0) {
            __atomic_store_n(parked, 1, __ATOMIC_RELAXED);
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (space() == 0)
                CHECK(!sleep_on_socket());
            __atomic_store_n(parked, 0, __ATOMIC_RELAXED);
            continue;
        }
        if (part > count)
            part = count;
        for (i = 0; i < part; i++)
            ring[(my_tail + i) & (ring_bytes - 1)] = (uint8_t)bytes[i];
        my_tail += part;
        __atomic_store_n(word64(TO_CREATOR_HEADER, TAIL), my_tail, __ATOMIC_RELEASE);
        ring_if_parked(word32(TO_CREATOR_HEADER, CONSUMER_PARKED));
        bytes += part;
        count -= part;
    }
}

/* Reads at least one byte; 0 is the end. */
static size_t read_ring(char *target, size_t room) {
    const uint8_t *ring = region + RINGS + ring_bytes;
    uint32_t *parked = word32(TO_ATTACHER_HEADER, CONSUMER_PARKED);
    uint64_t i, count;
    int ended = 0;
    while ((count = available()) == 0) {
        if (ended)
            return 0;
        /* What was published before it closed is seen by the next look. */
        ended = __atomic_load_n(word32(TO_ATTACHER_HEADER, PRODUCER_CLOSED), __ATOMIC_ACQUIRE) != 0;
        if (ended)
            continue;
        ring_if_parked(word32(TO_ATTACHER_HEADER, PRODUCER_PARKED));
        __atomic_store_n(parked, 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (available() == 0)
            ended = sleep_on_socket();
        __atomic_store_n(parked, 0, __ATOMIC_RELAXED);
    }
    if (count > room)
        count = room;
    for (i = 0; i < count; i++)
        target[i] = (char)ring[(my_head + i) & (ring_bytes - 1)];
    my_head += count;
    __atomic_store_n(word64(TO_ATTACHER_HEADER, HEAD), my_head, __ATOMIC_RELEASE);
    /* Oftener than once for each half ring. */
    ring_if_parked(word32(TO_ATTACHER_HEADER, PRODUCER_PARKED));
    return count;
}

static void expect_in_ring(const char *expected, size_t count) {
    static char bytes[1 << 16];
    while (count > 0) {
        size_t part = read_ring(bytes, count < sizeof(bytes) ? count : sizeof(bytes));
        CHECK(part > 0);
        CHECK(memcmp(bytes, expected, part) == 0);
        expected += part;
        count -= part;
    }
}

static void ask(const char *command, const char *reply) {
    write_ring(command, strlen(command));
    expect_in_ring(reply, strlen(reply));
}

/* Receives one datagram or what a stream has, and a descriptor if one comes. */
static ssize_t receive(int from, char *bytes, size_t room, int *fd) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {bytes, room};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t count = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (count >= 0 && header != NULL && header->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(header), sizeof(int));
    return count;
}

/* SHM.OPEN: returns the region's descriptor. */
static int open_region(int is_unix) {
    char bytes[64], name[6] = "", command[128];
    int fd = -1, fd_socket = -1;
    if (!is_unix) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        socklen_t length = sizeof(address);
        fd_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        CHECK(bind(fd_socket, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
        CHECK(getsockname(fd_socket, (struct sockaddr *)&address, &length) == 0);
        CHECK(address.sun_path[0] == 0);
        memcpy(name, address.sun_path + 1, 5);
        snprintf(command, sizeof(command), "SHM.OPEN 2 FDSOCKET %s\r\n", name);
    } else {
        snprintf(command, sizeof(command), "SHM.OPEN 2\r\n");
    }
    CHECK(send(sock, command, strlen(command), 0) == (ssize_t)strlen(command));
    if (is_unix) {
        CHECK(receive(sock, bytes, sizeof(bytes), &fd) == 5 && memcmp(bytes, "+OK\r\n", 5) == 0);
    } else {
        CHECK(receive(sock, bytes, sizeof(bytes), &fd) == 38 && memcmp(bytes, "+OK ", 4) == 0);
        memcpy(proof, bytes + 4, 32);
        CHECK(receive(fd_socket, bytes, sizeof(bytes), &fd) == 1 && bytes[0] == 0);
        close(fd_socket);
    }
    CHECK(fd >= 0);
    return fd;
}

/* "Attaching". */
static void attach(int fd) {
    struct stat status;
    int seals = fcntl(fd, F_GET_SEALS);
    CHECK(seals >= 0 && (seals & F_SEAL_SHRINK));
    CHECK(fstat(fd, &status) == 0 && status.st_size >= RINGS);
    region = mmap(NULL, RINGS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED);
    CHECK(memcmp(region, "SHMFIFO", 8) == 0);
    CHECK(__atomic_load_n(word64(0, 8), __ATOMIC_RELAXED) == 2);
    ring_bytes = __atomic_load_n(word64(0, 16), __ATOMIC_RELAXED);
    CHECK(ring_bytes >= 4096 && ring_bytes <= 1 << 30 && (ring_bytes & (ring_bytes - 1)) == 0);
    CHECK((uint64_t)status.st_size == RINGS + 2 * ring_bytes);
    munmap(region, RINGS);
    region = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED);
    CHECK(madvise(region, (size_t)status.st_size, MADV_DONTFORK) == 0);
    CHECK(madvise(region, (size_t)status.st_size, MADV_DONTDUMP) == 0);
    close(fd);
}

static void start(void) {
    char command[64] = "SHM.START ", byte;
    int i;
    for (i = 0; i < 16; i++)
        sprintf(command + strlen(command), "%02x", region[24 + i]);
    CHECK(!*proof || strcmp(command + 10, proof) == 0); /* else stay on the socket */
    strcat(command, "\r\n");
    CHECK(send(sock, command, strlen(command), 0) == (ssize_t)strlen(command));
    /* A doorbell; an error would begin with '-'. */
    CHECK(recv(sock, &byte, 1, 0) == 1 && byte == 0);
    expect_in_ring("+OK\r\n", 5);
}

static void connect_to(int is_unix, const char *where) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in host = {.sin_family = AF_INET};
    int connected;
    sock = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_unix) {
        snprintf(path.sun_path, sizeof(path.sun_path), "%s", where);
        connected = connect(sock, (struct sockaddr *)&path, sizeof(path));
    } else {
        host.sin_port = htons((uint16_t)atoi(where));
        host.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected = connect(sock, (struct sockaddr *)&host, sizeof(host));
    }
    CHECK(connected == 0);
}

/* A value larger than both rings, there and back. */
static void exchange_large(void) {
    size_t i, length = 5 * ring_bytes + 12345;
    char head[64];
    char *value = malloc(length + 2);
    CHECK(value != NULL);
    for (i = 0; i < length; i++)
        value[i] = (char)(i * 31 + i / 257);
    memcpy(value + length, "\r\n", 2);
    snprintf(head, sizeof(head), "*2\r\n$4\r\nECHO\r\n$%zu\r\n", length);
    write_ring(head, strlen(head));
    write_ring(value, length + 2);
    snprintf(head, sizeof(head), "$%zu\r\n", length);
    expect_in_ring(head, strlen(head));
    expect_in_ring(value, length + 2);
    free(value);
}

int main(int count, char **arguments) {
    char byte;
    int i, is_unix;
    CHECK(count == 3);
    alarm(60);
    is_unix = strcmp(arguments[1], "unix") == 0;
    connect_to(is_unix, arguments[2]);
    attach(open_region(is_unix));
    start();
    for (i = 0; i < 10000; i++)
        ask("PING\r\n", "+PONG\r\n");
    ask("SET documented 1\r\n", "+OK\r\n");
    ask("INCR documented\r\n", ":2\r\n");
    exchange_large();
    ask("BLPOP nothing 0.01\r\n", "*-1\r\n");
    ask("QUIT\r\n", "+OK\r\n");
    CHECK(read_ring(&byte, 1) == 0);
    __atomic_store_n(word32(TO_CREATOR_HEADER, PRODUCER_CLOSED), 1, __ATOMIC_RELEASE);
    __atomic_store_n(word32(TO_ATTACHER_HEADER, CONSUMER_CLOSED), 1, __ATOMIC_RELEASE);
    close(sock);
    puts("passed");
    return 0;
}
