/*
 * Both ends of a channel by include/shm_fifo.h in one process, of which one is closed: what it
 * wrote is read, and then it has ended in both directions, although its socket is open.
 */
#include "../../include/shm_fifo.h"

#include "check.h"

int main(void) {
    int sockets[2];
    char byte;
    shm_fifo_channel here, there;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    int region = shm_fifo_channel_create(&here, 4096, shm_fifo_socket(sockets[0]));
    CHECK(region >= 0);
    CHECK(shm_fifo_channel_attach(&there, region, shm_fifo_socket(sockets[1])) == 0);
    CHECK(shm_fifo_channel_write(&here, "x", 1, SHM_FIFO_NOW) == 1);
    CHECK(shm_fifo_channel_read(&here, &byte, 1, SHM_FIFO_NOW) == -EAGAIN);
    CHECK(shm_fifo_channel_write(&there, "y", 1, SHM_FIFO_NOW) == 1);
    shm_fifo_channel_close(&there);
    CHECK(shm_fifo_channel_write(&here, "x", 1, SHM_FIFO_NOW) == -EPIPE);
    CHECK(shm_fifo_channel_read(&here, &byte, 1, SHM_FIFO_NOW) == 1 && byte == 'y');
    CHECK(shm_fifo_channel_read(&here, &byte, 1, SHM_FIFO_NOW) == 0);
    shm_fifo_channel_close(&here);
    return 0;
}
