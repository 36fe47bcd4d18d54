#include "raw.h"

#include "ways.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* What programs call that are compiled with -D_FORTIFY_SOURCE, and other names. */
ssize_t __read(int, void *, size_t);
ssize_t __read_chk(int, void *, size_t, size_t);
ssize_t __recv_chk(int, void *, size_t, size_t, int);
ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

enum {
    READ, READ_ALIAS, READV, PREADV2, READ_CHK, SYSCALL_READ, SYSCALL_READV, FILE_WAYS,
    RECV = FILE_WAYS, RECVFROM, RECVMSG, RECVMMSG, RECV_CHK, RECVFROM_CHK, SYSCALL_RECVFROM,
    SYSCALL_RECVMSG, ALL_WAYS,
};

const char *const names_of_reads[] = {
    "read", "__read", "readv", "preadv2", "__read_chk", "syscall(read)", "syscall(readv)", "recv",
    "recvfrom", "recvmsg", "recvmmsg", "__recv_chk", "__recvfrom_chk", "syscall(recvfrom)",
    "syscall(recvmsg)",
};

unsigned any_way_to_read_a_file(struct random *random) { return below(random, FILE_WAYS); }

unsigned any_way_to_read(struct random *random, int flags) {
    unsigned way = below(random, ALL_WAYS);
    return flags && way < FILE_WAYS ? FILE_WAYS + way : way;
}

static int split(struct iovec *parts, void *data, size_t length, struct random *random) {
    int count = 1 + below(random, 4);
    for (int i = 0; i < count; i++) {
        size_t part = i + 1 < count ? below(random, length + 1) : length;
        parts[i] = (struct iovec){data, part};
        data = (char *)data + part;
        length -= part;
    }
    return count;
}

static long receive_message(int fd, struct iovec *parts, int count, int flags, int by_syscall) {
    char rights[64];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count,
                             .msg_control = rights, .msg_controllen = sizeof rights};
    long got = by_syscall ? syscall(SYS_recvmsg, fd, &message, flags) : recvmsg(fd, &message, flags);
    if (got >= 0)
        CHECK(message.msg_flags == 0 && message.msg_controllen == 0,
              "recvmsg: flags %#x, %zu bytes of control", message.msg_flags, message.msg_controllen);
    return got;
}

static long receive_messages(int fd, struct iovec *parts, int count, int flags) {
    struct mmsghdr messages[4] = {0};
    int used = 0;
    for (int i = 0; i < count; i++) {
        if (!parts[i].iov_len) continue;
        messages[used].msg_hdr.msg_iov = &parts[i];
        messages[used++].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(fd, messages, used, flags | MSG_WAITFORONE, NULL);
    if (got < 0) return -1;
    /* Each message has a place of its own, whether it was filled or not. */
    char *end = messages[0].msg_hdr.msg_iov->iov_base;
    for (int i = 0; i < got; i++) {
        memmove(end, messages[i].msg_hdr.msg_iov->iov_base, messages[i].msg_len);
        end += messages[i].msg_len;
    }
    return end - (char *)messages[0].msg_hdr.msg_iov->iov_base;
}

long read_by(unsigned way, int fd, void *data, size_t length, int flags, struct random *random) {
    struct iovec parts[4];
    int count = split(parts, data, length, random);
    count_call();
    switch (way) {
    case READ: return read(fd, data, length);
    case READ_ALIAS: return __read(fd, data, length);
    case READV: return readv(fd, parts, count);
    case PREADV2: return preadv2(fd, parts, count, -1, 0);
    case READ_CHK: return __read_chk(fd, data, length, length);
    case SYSCALL_READ: return syscall(SYS_read, fd, data, length);
    case SYSCALL_READV: return syscall(SYS_readv, fd, parts, count);
    case RECV: return recv(fd, data, length, flags);
    case RECVFROM: return recvfrom(fd, data, length, flags, NULL, NULL);
    case RECVMSG: return receive_message(fd, parts, count, flags, 0);
    case RECVMMSG:
        if (flags & (MSG_PEEK | MSG_WAITALL)) return recv(fd, data, length, flags);
        return receive_messages(fd, parts, count, flags);
    case RECV_CHK: return __recv_chk(fd, data, length, length, flags);
    case RECVFROM_CHK: return __recvfrom_chk(fd, data, length, length, flags, NULL, NULL);
    case SYSCALL_RECVFROM: return syscall(SYS_recvfrom, fd, data, length, flags, NULL, NULL);
    default: return receive_message(fd, parts, count, flags, 1);
    }
}
