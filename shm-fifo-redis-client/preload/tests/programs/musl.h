/* What musl does not have, as its programs do it: by system calls. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RWF_NOWAIT 8
/* Names that it has once. */
#define __read read
#define __write write
#define __send send

static inline int close_range(unsigned first, unsigned last, int flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
/* musl's own goes on behind a message that was sent in part. */
#define sendmmsg(fd, messages, count, flags) (int)syscall(SYS_sendmmsg, fd, messages, count, flags)
static inline void closefrom(int first) { close_range(first, ~0U, 0); }
static inline ssize_t preadv2(int fd, const struct iovec *spans, int count, off_t position, int flags) {
    return syscall(SYS_preadv2, fd, spans, count, position, 0, flags);
}
static inline ssize_t pwritev2(int fd, const struct iovec *spans, int count, off_t position, int flags) {
    return syscall(SYS_pwritev2, fd, spans, count, position, 0, flags);
}
