/*
 * The other process of tests/c_peer.rs: one end of a channel, by include/shm_fifo.h.
 *
 *     peer attach|create DOORBELL echo|send|take [OWN PEER LIFE]
 *
 * Standard input is a unix socket, by which the region's descriptor comes or goes, and which
 * is the doorbell from then on if DOORBELL is `socket`. If it is `eventfds`, the three numbers
 * are those of two eventfds and of a descriptor that ends with the peer.
 *
 * `echo` sends back what it reads, until the end of the stream; `take` looks whether it is the
 * tests' pattern, and says how long it was; `send` sends the pattern for ever. Exits with the
 * errno that ended it.
 */
#include "../../include/shm_fifo.h"

#include "check.h"

enum { RING_BYTES = 4096 };

struct eventfds {
    int own, peer, life;
};

static void ring_eventfd(void *context) {
    const struct eventfds *fds = (const struct eventfds *)context;
    uint64_t one = 1;
    CHECK(write(fds->peer, &one, sizeof one) == sizeof one);
}

static int wait_for_eventfd(void *context, int64_t timeout_us) {
    const struct eventfds *fds = (const struct eventfds *)context;
    struct pollfd polled[2] = {{fds->own, POLLIN, 0}, {fds->life, POLLIN, 0}};
    int ready = poll(polled, 2, timeout_us < 0 ? -1 : (int)(timeout_us / 1000));
    if (ready <= 0)
        return ready < 0 ? -errno : 0;
    uint64_t count;
    if (polled[0].revents != 0)
        CHECK(read(fds->own, &count, sizeof count) == sizeof count);
    return polled[1].revents != 0 ? -EPIPE : 1;
}

static void exit_with(ssize_t error) {
    exit((int)-error);
}

static void write_all(shm_fifo_channel *channel, const unsigned char *bytes, size_t length) {
    while (length > 0) {
        ssize_t count = shm_fifo_channel_write(channel, bytes, length, SHM_FIFO_FOREVER);
        if (count < 0)
            exit_with(count);
        CHECK(count > 0 && (size_t)count <= length);
        bytes += count;
        length -= (size_t)count;
    }
}

static void echo(shm_fifo_channel *channel) {
    unsigned char bytes[1000];
    ssize_t count;
    while ((count = shm_fifo_channel_read(channel, bytes, sizeof bytes, SHM_FIFO_FOREVER)) > 0)
        write_all(channel, bytes, (size_t)count);
    if (count < 0)
        exit_with(count);
}

static void take(shm_fifo_channel *channel) {
    static unsigned char bytes[2 * RING_BYTES + 8];
    uint64_t position = 0, random = 11;
    ssize_t count;
    do {
        size_t room = next_length(&random, RING_BYTES);
        count = shm_fifo_channel_read(channel, bytes, room, SHM_FIFO_FOREVER);
        if (count < 0)
            exit_with(count);
        CHECK((size_t)count <= room);
        for (ssize_t i = 0; i < count; i++)
            CHECK(bytes[i] == pattern_at(position++));
    } while (count > 0);
    printf("%ju\n", (uintmax_t)position);
}

static void send_pattern(shm_fifo_channel *channel) {
    static unsigned char bytes[2 * RING_BYTES + 8];
    uint64_t position = 0, random = 12;
    for (;;) {
        size_t length = next_length(&random, RING_BYTES);
        for (size_t i = 0; i < length; i++)
            bytes[i] = pattern_at(position++);
        write_all(channel, bytes, length);
    }
}

static void connect_by(const char *role, shm_fifo_channel *channel, shm_fifo_doorbell doorbell) {
    bool is_creator = strcmp(role, "create") == 0;
    int region = is_creator ? shm_fifo_channel_create(channel, RING_BYTES, doorbell)
                            : shm_fifo_receive_fd(STDIN_FILENO);
    if (region < 0)
        exit_with(region);
    int result = is_creator ? shm_fifo_send_fd(STDIN_FILENO, region)
                            : shm_fifo_channel_attach(channel, region, doorbell);
    if (result < 0)
        exit_with(result);
    close(region);
}

int main(int argc, char **argv) {
    struct eventfds fds;
    shm_fifo_channel channel;
    shm_fifo_doorbell doorbell = shm_fifo_socket(STDIN_FILENO);
    CHECK(argc >= 4);
    /* A watchdog of its own: whoever started it may have died by theirs. */
    alarm(90);
    if (strcmp(argv[2], "eventfds") == 0) {
        CHECK(argc == 7);
        fds.own = atoi(argv[4]);
        fds.peer = atoi(argv[5]);
        fds.life = atoi(argv[6]);
        doorbell.ring = ring_eventfd;
        doorbell.wait = wait_for_eventfd;
        doorbell.context = &fds;
    }
    connect_by(argv[1], &channel, doorbell);
    if (strcmp(argv[3], "echo") == 0)
        echo(&channel);
    else if (strcmp(argv[3], "take") == 0)
        take(&channel);
    else
        send_pattern(&channel);
    shm_fifo_channel_close(&channel);
    return 0;
}
