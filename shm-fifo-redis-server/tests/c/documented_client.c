/*
 * A client written from docs/protocol.md and docs/layout.md alone, with nothing of
 * this project's code: where it does not work, those pages are wrong.
 *
 *     documented_client unix PATH
 *     documented_client tcp PORT
 *     redis-shm conformance -- documented_client
 *
 * It stores no message inline, as the layout allows, and writes nothing into the ring before
 * SHM.START is answered. An error of the server ends it; a refusal does not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
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
enum {
    MAGIC_AT = 0,
    LAYOUT_VERSION_AT = 8,
    RING_BYTES_AT = 16,
    TOKEN_AT = 24,
    TO_CREATOR_HEADER = 1024,
    TO_ATTACHER_HEADER = 1536,
    RINGS = 4096
};

/* "Numbers". */
#define MAGIC UINT64_C(0x004F4649464D4853)
enum {
    LAYOUT_VERSION = 2,
    PROTOCOL_VERSION = 2,
    RING_BYTES_MIN = 4096,
    RING_BYTES_MAX = 1 << 30,
    TOKEN_DIGITS = 32,
    DOORBELL = 0
};

static uint8_t *region;
static uint64_t ring_bytes; /* loaded once */
static int sock;
static char proof[TOKEN_DIGITS + 1]; /* over TCP the token that the answer to SHM.OPEN names */

/* Private copies of our own positions, and of the last that we saw of the server's. */
static uint64_t my_tail, seen_head;
static uint64_t my_head, seen_tail;

static uint64_t *word64(size_t header, size_t offset) {
    return (uint64_t *)(region + header + offset);
}

static uint32_t *word32(size_t header, size_t offset) {
    return (uint32_t *)(region + header + offset);
}

static void ring_doorbell(void) {
    const char byte = DOORBELL;
    send(sock, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Whether the server ended while we slept. */
static int sleep_on_socket(void) {
    char bytes[256];
    ssize_t i, count = recv(sock, bytes, sizeof(bytes), 0);
    if (count < 0 && errno == ECONNRESET)
        return 1;
    CHECK(count >= 0);
    for (i = 0; i < count; i++)
        CHECK(bytes[i] == DOORBELL);
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

/* Whether the connection has moved. */
static int moved;

static void write_all(const char *bytes, size_t count) {
    ssize_t part;
    if (moved) {
        write_ring(bytes, count);
        return;
    }
    for (; count > 0; bytes += part, count -= (size_t)part) {
        part = send(sock, bytes, count, MSG_NOSIGNAL);
        CHECK(part > 0);
    }
}

static void read_all(char *target, size_t count) {
    while (count > 0) {
        ssize_t part = moved ? (ssize_t)read_ring(target, count) : recv(sock, target, count, 0);
        CHECK(part > 0);
        target += part;
        count -= (size_t)part;
    }
}

static void expect(const char *expected, size_t count) {
    static char bytes[1 << 16];
    while (count > 0) {
        size_t part = count < sizeof(bytes) ? count : sizeof(bytes);
        read_all(bytes, part);
        CHECK(memcmp(bytes, expected, part) == 0);
        expected += part;
        count -= part;
    }
}

/* A line, with its end. */
static void read_line(char *line, size_t room) {
    size_t length = 0;
    do {
        CHECK(length + 1 < room);
        read_all(line + length, 1);
    } while (line[length++] != '\n');
    line[length] = 0;
}

/* The rest of a value that begins with this line. */
static void skip_value(const char *line) {
    char part[1024];
    long i, count = atol(line + 1);
    if (*line == '$') {
        for (i = 0; i < count + 2; i++)
            read_all(part, 1);
    } else if (strchr("*>%", *line) != NULL) {
        for (i = 0; i < count * (*line == '%' ? 2 : 1); i++) {
            read_line(part, sizeof(part));
            skip_value(part);
        }
    }
}

/* The first line of a reply. Pushes are nothing to this program. */
static void read_reply_line(char *line, size_t room) {
    read_line(line, room);
    while (*line == '>') {
        skip_value(line);
        read_line(line, room);
    }
}

static void ask(const char *command, const char *reply) {
    write_all(command, strlen(command));
    expect(reply, strlen(reply));
}

/* Receives one datagram or what a stream has, and a descriptor if one comes. */
static ssize_t receive(int from, char *bytes, size_t room, int *fd, int flags) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {bytes, room};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t count = recvmsg(from, &message, flags | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (count >= 0 && header != NULL && header->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(header), sizeof(int));
    return count;
}

/* A line that the server says on the socket, and a descriptor if one comes with it. */
static void receive_line(char *line, size_t room, int *fd) {
    size_t length = 0;
    do {
        CHECK(length + 1 < room);
        CHECK(receive(sock, line + length, 1, fd, 0) == 1);
    } while (line[length++] != '\n');
    line[length] = 0;
}

/* The socket for the descriptor, over TCP: its name is five digits. */
static int bind_fd_socket(char name[6]) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(address);
    int fd_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd_socket, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
    CHECK(getsockname(fd_socket, (struct sockaddr *)&address, &length) == 0);
    CHECK(address.sun_path[0] == 0);
    memcpy(name, address.sun_path + 1, 5);
    name[5] = 0;
    return fd_socket;
}

/* SHM.OPEN: returns the region's descriptor, or -1: stay on the socket. */
static int open_region(int is_unix) {
    char line[1024], name[6], command[128], letter[2];
    int fd = -1, fd_socket = -1;
    if (is_unix) {
        snprintf(command, sizeof(command), "SHM.OPEN %d\r\n", PROTOCOL_VERSION);
    } else {
        fd_socket = bind_fd_socket(name);
        snprintf(command, sizeof(command), "SHM.OPEN %d FDSOCKET %s\r\n", PROTOCOL_VERSION, name);
    }
    write_all(command, strlen(command));
    receive_line(line, sizeof(line), &fd);
    while (*line == '>') {
        skip_value(line);
        receive_line(line, sizeof(line), &fd);
    }
    if (!is_unix) {
        if (strlen(line) == 4 + TOKEN_DIGITS + 2 && strncmp(line, "+OK ", 4) == 0)
            memcpy(proof, line + 4, TOKEN_DIGITS);
        if (receive(fd_socket, letter, sizeof(letter), &fd, MSG_DONTWAIT) == 1)
            CHECK(letter[0] == DOORBELL);
        close(fd_socket);
    }
    return strncmp(line, "+OK", 3) == 0 ? fd : -1;
}

/* "Attaching": whether that is a region. */
static int attach(int fd) {
    struct stat status;
    uint64_t magic, version;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &status) != 0 || status.st_size < RINGS)
        return 0;
    region = mmap(NULL, RINGS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED);
    magic = __atomic_load_n(word64(0, MAGIC_AT), __ATOMIC_RELAXED);
    version = __atomic_load_n(word64(0, LAYOUT_VERSION_AT), __ATOMIC_RELAXED);
    ring_bytes = __atomic_load_n(word64(0, RING_BYTES_AT), __ATOMIC_RELAXED);
    munmap(region, RINGS);
    if (magic != MAGIC || version != LAYOUT_VERSION || ring_bytes < RING_BYTES_MIN ||
        ring_bytes > RING_BYTES_MAX || (ring_bytes & (ring_bytes - 1)) != 0 ||
        (uint64_t)status.st_size != RINGS + 2 * ring_bytes)
        return 0;
    region = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED);
    CHECK(madvise(region, (size_t)status.st_size, MADV_DONTFORK) == 0);
    CHECK(madvise(region, (size_t)status.st_size, MADV_DONTDUMP) == 0);
    return 1;
}

/* SHM.START: whether the server has entered, too. */
static int start(int is_unix) {
    char command[64] = "SHM.START ", line[1024], byte;
    int i;
    for (i = 0; i < TOKEN_DIGITS / 2; i++)
        sprintf(command + strlen(command), "%02x", region[TOKEN_AT + i]);
    if (!is_unix && strcmp(command + 10, proof) != 0)
        return 0;
    strcat(command, "\r\n");
    write_all(command, strlen(command));
    /* Value by value, for a push may have a zero byte in it, too. */
    while (recv(sock, &byte, 1, MSG_PEEK) == 1 && byte != DOORBELL) {
        read_line(line, sizeof(line));
        if (*line == '-')
            return 0;
        CHECK(*line == '>');
        skip_value(line);
    }
    CHECK(recv(sock, &byte, 1, 0) == 1);
    return 1;
}

/* Moves, or stays on the socket. */
static void move_to_shared_memory(int is_unix) {
    int fd = open_region(is_unix);
    if (fd < 0)
        return;
    moved = attach(fd) && start(is_unix);
    close(fd);
    if (moved)
        expect("+OK\r\n", 5);
}

static void connect_to(int is_unix, const char *where) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in host = {.sin_family = AF_INET};
    int connected, yes = 1;
    sock = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_unix) {
        snprintf(path.sun_path, sizeof(path.sun_path), "%s", where);
        connected = connect(sock, (struct sockaddr *)&path, sizeof(path));
    } else {
        host.sin_port = htons((uint16_t)atoi(where));
        host.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connected = connect(sock, (struct sockaddr *)&host, sizeof(host));
        setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
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
    write_all(head, strlen(head));
    write_all(value, length + 2);
    snprintf(head, sizeof(head), "$%zu\r\n", length);
    expect(head, strlen(head));
    expect(value, length + 2);
    free(value);
}

/* RESP3: the server may push. */
static void hello(void) {
    char line[1024];
    write_all("HELLO 3\r\n", 9);
    read_reply_line(line, sizeof(line));
    skip_value(line);
}

/* What conformance.md asks of a program: it sends back whatever it is given. */
static void send_back_all(void) {
    char line[1024], head[64], *value;
    for (;;) {
        size_t length;
        write_all("GET next\r\n", 10);
        read_reply_line(line, sizeof(line));
        if (*line == '_')
            return;
        CHECK(*line == '$');
        length = (size_t)atol(line + 1) + 2;
        value = malloc(length);
        CHECK(value != NULL);
        read_all(value, length);
        snprintf(head, sizeof(head), "*2\r\n$4\r\nECHO\r\n%.40s", line);
        write_all(head, strlen(head));
        write_all(value, length);
        read_reply_line(head, sizeof(head));
        CHECK(strcmp(head, line) == 0);
        expect(value, length);
        free(value);
    }
}

/* All of a connection to a Redis, from its beginning to QUIT. */
static void exchange_and_quit(void) {
    char byte;
    int i;
    CHECK(moved);
    for (i = 0; i < 10000; i++)
        ask("PING\r\n", "+PONG\r\n");
    ask("SET documented 1\r\n", "+OK\r\n");
    ask("INCR documented\r\n", ":2\r\n");
    exchange_large();
    ask("BLPOP nothing 0.01\r\n", "*-1\r\n");
    ask("QUIT\r\n", "+OK\r\n");
    CHECK(read_ring(&byte, 1) == 0);
}

static void end(void) {
    if (moved) {
        __atomic_store_n(word32(TO_CREATOR_HEADER, PRODUCER_CLOSED), 1, __ATOMIC_RELEASE);
        __atomic_store_n(word32(TO_ATTACHER_HEADER, CONSUMER_CLOSED), 1, __ATOMIC_RELEASE);
    }
    close(sock);
}

int main(int count, char **arguments) {
    const char *place = getenv("SHM_FIFO_CONFORMANCE");
    int is_unix = count == 3 ? strcmp(arguments[1], "unix") == 0 : place && *place == '/';
    CHECK(count == 3 || place != NULL);
    alarm(60);
    if (count == 3)
        place = arguments[2];
    else if (!is_unix)
        place = strrchr(place, ':') + 1;
    connect_to(is_unix, place);
    if (count != 3)
        hello();
    move_to_shared_memory(is_unix);
    if (count == 3)
        exchange_and_quit();
    else
        send_back_all();
    end();
    puts("passed");
    return 0;
}
