/*
 * Two processes that talk through shared memory: one asks, the other shouts back.
 *
 *     cc -std=c11 -D_GNU_SOURCE -O2 -I include -o two_process examples/two_process.c
 *
 * The second is the first one's child here, which inherits the region's descriptor and the
 * socket. Between processes that are not, `shm_fifo_send_fd` and `shm_fifo_receive_fd` pass
 * the descriptor over the socket, a unix socket that they have connected.
 */
#include "shm_fifo.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static void fail(const char *what, ssize_t error) {
    fprintf(stderr, "%s: %s\n", what, strerror((int)-error));
    exit(1);
}

/* Sends all of `bytes`. What fits goes at once; the rest waits for the peer to read. */
static void send_all(shm_fifo_channel *channel, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t count = shm_fifo_channel_write(channel, bytes, length, SHM_FIFO_FOREVER);
        if (count < 0)
            fail("write", count);
        bytes += count;
        length -= (size_t)count;
    }
}

static int shout(int region, int socket) {
    shm_fifo_channel channel;
    int result = shm_fifo_channel_attach(&channel, region, shm_fifo_socket(socket));
    if (result < 0)
        fail("attach", result);

    char bytes[100];
    ssize_t count;
    while ((count = shm_fifo_channel_read(&channel, bytes, sizeof bytes, SHM_FIFO_FOREVER)) > 0) {
        for (ssize_t i = 0; i < count; i++)
            bytes[i] = (char)toupper((unsigned char)bytes[i]);
        send_all(&channel, bytes, (size_t)count);
    }
    if (count < 0)
        fail("read", count);
    shm_fifo_channel_close(&channel);
    return 0;
}

int main(void) {
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
        fail("socketpair", -errno);
    shm_fifo_channel channel;
    int region = shm_fifo_channel_create(&channel, 65536, shm_fifo_socket(sockets[0]));
    if (region < 0)
        fail("create", region);
    pid_t child = fork();
    if (child < 0)
        fail("fork", -errno);
    if (child == 0) {
        /* The parent's channel is not inherited, its copy of the socket must not stay open. */
        close(sockets[0]);
        return shout(region, sockets[1]);
    }
    close(sockets[1]);
    close(region);

    const char request[] = "hello through shared memory";
    char reply[sizeof request] = "";
    send_all(&channel, request, sizeof request - 1);
    for (size_t have = 0; have < sizeof request - 1;) {
        ssize_t count = shm_fifo_channel_read(&channel, reply + have, sizeof reply - 1 - have, 1000000);
        if (count <= 0)
            fail("read", count);
        have += (size_t)count;
    }
    printf("%d says: %s\n", (int)child, reply);

    shm_fifo_channel_close(&channel);
    close(sockets[0]);
    waitpid(child, NULL, 0);
    return 0;
}
