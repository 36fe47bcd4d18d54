#include "raw.h"

#include "ways.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Names that the C library exports beside those of its headers. */
ssize_t __write(int, const void *, size_t);
ssize_t __send(int, const void *, size_t, int);

enum {
    WRITE, WRITE_ALIAS, WRITEV, PWRITEV2, SYSCALL_WRITE, SYSCALL_WRITEV, FILE_WAYS,
    SEND = FILE_WAYS, SEND_ALIAS, SENDTO, SENDMSG, SENDMMSG, SYSCALL_SENDTO, SYSCALL_SENDMSG,
    SYSCALL_SENDMMSG, ALL_WAYS,
};

const char *const names_of_writes[] = {
    "write", "__write", "writev", "pwritev2", "syscall(write)", "syscall(writev)", "send",
    "__send", "sendto", "sendmsg", "sendmmsg", "syscall(sendto)", "syscall(sendmsg)",
    "syscall(sendmmsg)",
};

unsigned any_way_to_write_a_file(struct random *random) { return below(random, FILE_WAYS); }

unsigned any_way_to_write(struct random *random, int flags) {
    unsigned way = below(random, ALL_WAYS);
    return flags && way < FILE_WAYS ? FILE_WAYS + way : way;
}

/* `data` in random parts, some of them empty. */
static int split(struct iovec *parts, const void *data, size_t length, struct random *random) {
    int count = 1 + below(random, 4);
    for (int i = 0; i < count; i++) {
        size_t part = i + 1 < count ? below(random, length + 1) : length;
        parts[i] = (struct iovec){(void *)data, part};
        data = (const char *)data + part;
        length -= part;
    }
    return count;
}

static long send_messages(int fd, struct iovec *parts, int count, int flags, int by_syscall) {
    struct mmsghdr messages[4] = {0};
    int used = 0;
    long total = 0;
    for (int i = 0; i < count; i++) {
        /* An empty message sends nothing, and some kernels stop there. */
        if (!parts[i].iov_len) continue;
        messages[used].msg_hdr.msg_iov = &parts[i];
        messages[used++].msg_hdr.msg_iovlen = 1;
    }
    if (!used) return 0;
    int sent = by_syscall ? syscall(SYS_sendmmsg, fd, messages, used, flags)
                          : sendmmsg(fd, messages, used, flags);
    if (sent < 0) return -1;
    for (int i = 0; i < sent; i++) total += messages[i].msg_len;
    return total;
}

long write_by(unsigned way, int fd, const void *data, size_t length, int flags, struct random *random) {
    struct iovec parts[4];
    int count = split(parts, data, length, random);
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    count_call();
    switch (way) {
    case WRITE: return write(fd, data, length);
    case WRITE_ALIAS: return __write(fd, data, length);
    case WRITEV: return writev(fd, parts, count);
    case PWRITEV2: return pwritev2(fd, parts, count, -1, 0);
    case SYSCALL_WRITE: return syscall(SYS_write, fd, data, length);
    case SYSCALL_WRITEV: return syscall(SYS_writev, fd, parts, count);
    case SEND: return send(fd, data, length, flags);
    case SEND_ALIAS: return __send(fd, data, length, flags);
    case SENDTO: return sendto(fd, data, length, flags, NULL, 0);
    case SENDMSG: return sendmsg(fd, &message, flags);
    case SENDMMSG: return send_messages(fd, parts, count, flags, 0);
    case SYSCALL_SENDTO: return syscall(SYS_sendto, fd, data, length, flags, NULL, 0);
    case SYSCALL_SENDMSG: return syscall(SYS_sendmsg, fd, &message, flags);
    default: return send_messages(fd, parts, count, flags, 1);
    }
}
