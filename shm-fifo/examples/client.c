/*
 * A client in C of a server in Rust (`shm_fifo::Listener`): sends each text as a frame, and
 * prints the frame that comes back.
 *
 *     cc -std=c11 -D_GNU_SOURCE -O2 -I include -o client examples/client.c
 *     ./client /tmp/echo.sock hello
 *
 * A frame is its length, four bytes, little-endian, and as many bytes.
 */
#include "shm_fifo.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum { LENGTH_BYTES = 4, LONGEST_TEXT = 1000 };

static void fail(const char *what, ssize_t error) {
    fprintf(stderr, "%s: %s\n", what, strerror((int)-error));
    exit(1);
}

/* A socket to the server that listens at `path`. */
static int connect_to(const char *path) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path)
        fail(path, -ENAMETOOLONG);
    strcpy(address.sun_path, path);
    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket_fd < 0 || connect(socket_fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(path, -errno);
    return socket_fd;
}

/* The server offers a region over the socket, which is the doorbell from then on. */
static void open_channel(shm_fifo_channel *channel, int socket_fd) {
    int region = shm_fifo_receive_fd(socket_fd);
    if (region < 0)
        fail("no region", region);
    int result = shm_fifo_channel_attach(channel, region, shm_fifo_socket(socket_fd));
    if (result < 0)
        fail("attach", result);
    close(region);
}

static void send_frame(shm_fifo_channel *channel, const char *text) {
    char frame[LENGTH_BYTES + LONGEST_TEXT];
    size_t length = strlen(text);
    if (length > LONGEST_TEXT)
        fail(text, -EMSGSIZE);
    uint32_t prefix = htole32((uint32_t)length);
    memcpy(frame, &prefix, LENGTH_BYTES);
    memcpy(frame + LENGTH_BYTES, text, length);
    for (size_t sent = 0; sent < LENGTH_BYTES + length;) {
        ssize_t count = shm_fifo_channel_write(channel, frame + sent, LENGTH_BYTES + length - sent,
                                               SHM_FIFO_FOREVER);
        if (count < 0)
            fail("write", count);
        sent += (size_t)count;
    }
}

static void read_all(shm_fifo_channel *channel, void *bytes, size_t length) {
    for (size_t have = 0; have < length;) {
        ssize_t count = shm_fifo_channel_read(channel, (char *)bytes + have, length - have,
                                              SHM_FIFO_FOREVER);
        if (count <= 0)
            fail("read", count < 0 ? count : -EPIPE);
        have += (size_t)count;
    }
}

static void print_frame(shm_fifo_channel *channel) {
    uint32_t prefix;
    read_all(channel, &prefix, sizeof prefix);
    uint32_t length = le32toh(prefix);
    char text[LONGEST_TEXT];
    if (length > sizeof text)
        fail("reply", -EMSGSIZE);
    read_all(channel, text, length);
    printf("%.*s\n", (int)length, text);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s PATH TEXT...\n", argv[0]);
        return 2;
    }
    int socket_fd = connect_to(argv[1]);
    shm_fifo_channel channel;
    open_channel(&channel, socket_fd);
    for (int i = 2; i < argc; i++) {
        send_frame(&channel, argv[i]);
        print_frame(&channel);
    }
    shm_fifo_channel_close(&channel);
    close(socket_fd);
    return 0;
}
