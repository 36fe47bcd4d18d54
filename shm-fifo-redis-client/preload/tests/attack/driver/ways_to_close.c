#include "raw.h"

#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int __close(int);
int __dup2(int, int);

enum {
    UNSEEN_CLOSE = CLOSED_UNSEEN, CLOSE, CLOSE_ALIAS, SYSCALL_CLOSE, CLOSE_RANGE,
    SYSCALL_CLOSE_RANGE, FCLOSE, DUP2_OVER, DUP2_ALIAS_OVER, DUP3_OVER, SYSCALL_DUP2_OVER, ALL_WAYS,
};

const char *const names_of_closes[] = {
    "a system call of its own", "close", "__close", "syscall(close)", "close_range",
    "syscall(close_range)", "fclose", "dup2", "__dup2", "dup3", "syscall(dup2)",
};

unsigned any_way_to_close(struct random *random) {
    return once_in(random, 10) ? UNSEEN_CLOSE : 1 + below(random, ALL_WAYS - 1);
}

static int put_over(unsigned way, int fd) {
    int other = raw(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR), result;
    count_call();
    switch (way) {
    case DUP2_OVER: result = dup2(other, fd); break;
    case DUP2_ALIAS_OVER: result = __dup2(other, fd); break;
    case DUP3_OVER: result = dup3(other, fd, O_CLOEXEC); break;
#ifdef SYS_dup2
    case SYSCALL_DUP2_OVER: result = syscall(SYS_dup2, other, fd); break;
#endif
    default: result = syscall(SYS_dup3, other, fd, 0);
    }
    raw(SYS_close, other);
    CHECK(result == fd, "dup2 over %d: %d (errno %d)", fd, result, errno);
    /* What is written goes nowhere: above all not to a server. */
    CHECK(CALL(write(fd, "\1garbage", 8)) == 8, "write after dup2 over %d: errno %d", fd, errno);
    return CALL(close(fd));
}

static int closed(unsigned way, int fd) {
    count_call();
    switch (way) {
    case UNSEEN_CLOSE: return raw(SYS_close, fd);
    case CLOSE: return close(fd);
    case CLOSE_ALIAS: return __close(fd);
    case SYSCALL_CLOSE: return syscall(SYS_close, fd);
    case CLOSE_RANGE: return close_range(fd, fd, 0);
    case SYSCALL_CLOSE_RANGE: return syscall(SYS_close_range, fd, fd, 0);
    case FCLOSE: {
        FILE *file = fdopen(fd, "r");
        CHECK(file, "fdopen of %d: errno %d", fd, errno);
        return fclose(file);
    }
    default: return put_over(way, fd);
    }
}

void close_by(unsigned way, int fd, struct random *random) {
    (void)random;
    int result = closed(way, fd);
    CHECK(result == 0, "%s of %d: %d (errno %d)", names_of_closes[way], fd, result, errno);
}

int dup_by(int fd, struct random *random) {
    int high = 40 + below(random, 200);
    count_call();
    switch (below(random, 8)) {
    case 0: return dup(fd);
    case 1: return fcntl(fd, F_DUPFD, 0);
    case 2: return fcntl(fd, F_DUPFD_CLOEXEC, 3);
    case 3: return fcntl(fd, F_DUPFD, high);
    case 4: return syscall(SYS_dup, fd);
    case 5: return syscall(SYS_fcntl, fd, F_DUPFD, 0);
    case 6:
        if (raw(SYS_fcntl, high, F_GETFD) >= 0) return dup(fd);
        return dup2(fd, high);
    default:
        if (raw(SYS_fcntl, high, F_GETFD) >= 0) return dup(fd);
        return dup3(fd, high, O_CLOEXEC);
    }
}
