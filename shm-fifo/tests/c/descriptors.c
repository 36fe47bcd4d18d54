/*
 * What comes with descriptors and is refused, by include/shm_fifo.h: none of them stays open.
 */
#include "../../include/shm_fifo.h"

#include "check.h"

/* Sends `length` bytes with `count` descriptors, which are the socket itself. */
static void pass(int socket, size_t length, size_t count) {
    char bytes[8] = {0};
    int fds[4] = {socket, socket, socket, socket};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof fds)];
    } control;
    struct iovec span = {bytes, length};
    struct msghdr message;
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = &span;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    CHECK(sendmsg(socket, &message, 0) == (ssize_t)length);
}

/* The number that the next descriptor gets. */
static int next_fd(void) {
    int fd = dup(STDIN_FILENO);
    CHECK(fd >= 0 && close(fd) == 0);
    return fd;
}

int main(void) {
    int sockets[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    int next = next_fd();
    pass(sockets[0], 0, 1);
    CHECK(shm_fifo_receive_fd(sockets[1]) == -EPROTO);
    pass(sockets[0], 8, 4);
    CHECK(shm_fifo_receive_fd(sockets[1]) == -EPROTO);
    CHECK(send(sockets[0], "none", 4, 0) == 4);
    CHECK(shm_fifo_receive_fd(sockets[1]) == -EPROTO);
    CHECK(next_fd() == next);
    CHECK(shm_fifo_send_fd(sockets[0], sockets[0]) == 0);
    CHECK(shm_fifo_receive_fd(sockets[1]) == next);
    CHECK(fcntl(next, F_GETFD) == FD_CLOEXEC);
    CHECK(close(next) == 0 && close(sockets[0]) == 0);
    CHECK(shm_fifo_receive_fd(sockets[1]) == -EPIPE);
    return 0;
}
