#include "raw.h"

#include "control.h"
#include "journal.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int pass_by_message(int fd, int seen) {
    int pair[2], number;
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    /* Made past the hooks, and at high numbers: the one that is passed is to take the low one. */
    CHECK(raw(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    int one = raw(SYS_fcntl, pair[0], F_DUPFD, 500), two = raw(SYS_fcntl, pair[1], F_DUPFD, 500);
    raw(SYS_close, pair[0]), raw(SYS_close, pair[1]);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    long sent = seen ? CALL(sendmsg(one, &message, 0)) : raw(SYS_sendmsg, one, &message, 0);
    int error = errno;
    if (sent == 1) {
        message.msg_controllen = sizeof control;
        CHECK(CALL(recvmsg(two, &message, 0)) == 1, "recvmsg: errno %d", errno);
        memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof number);
    }
    raw(SYS_close, one), raw(SYS_close, two);
    errno = error;
    return sent == 1 ? number : -1;
}

/* It is passed on, which only a socket can be, and comes back as one more number. Then none
 * moves any more: not often. */
void pass_on(struct random *random) {
    struct connection *c = any_connection(random);
    if (!once_in(random, 32)) return;
    if (!c || c->names == MAX_NAMES || c->is_held || c->shut_reading || c->shut_writing) return;
    if (c->server_end != NOT_ENDED || c->ends_by || c->may_die) return;
    int fd = any_name(c, random), was_read = perhaps_unread(c) == 0;
    int copy = pass_by_message(fd, 1);
    /* What had come before it moved is still to be read. */
    if (copy < 0 && errno == EINVAL && !is_plain && !was_read) return;
    CHECK(copy >= 0, "c%d cannot be passed on: errno %d", (int)c->generator.id, errno);
    c->fds[c->names++] = copy;
    say("c%d was passed on, and is %d as well", (int)c->generator.id, copy);
}
