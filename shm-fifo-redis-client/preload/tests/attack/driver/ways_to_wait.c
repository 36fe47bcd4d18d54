#include "raw.h"

#include "ways.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

int __poll_chk(struct pollfd *, nfds_t, int, size_t);
int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

enum {
    POLL, PPOLL, POLL_CHK, PPOLL_CHK, SYSCALL_POLL, SYSCALL_PPOLL, POLL_WAYS,
    SELECT = POLL_WAYS, PSELECT, SYSCALL_SELECT, SYSCALL_PSELECT, ALL_WAYS,
};

const char *const names_of_polls[] = {
    "poll", "ppoll", "__poll_chk", "__ppoll_chk", "syscall(poll)", "syscall(ppoll)",
    "select", "pselect", "syscall(select)", "syscall(pselect6)",
};

unsigned any_way_to_poll(struct random *random, int may_select) {
    return below(random, may_select ? ALL_WAYS : POLL_WAYS);
}

int is_select(unsigned way) { return way >= POLL_WAYS; }

static struct timespec time_of(int timeout_ms) {
    return (struct timespec){timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
}

static int poll_syscall(struct pollfd *entries, unsigned count, int timeout_ms) {
#ifdef SYS_poll
    return syscall(SYS_poll, entries, count, timeout_ms);
#else
    return poll(entries, count, timeout_ms);
#endif
}

static int select_by(unsigned way, struct pollfd *entries, unsigned count, int timeout_ms) {
    fd_set reads, writes, excepts;
    FD_ZERO(&reads);
    FD_ZERO(&writes);
    FD_ZERO(&excepts);
    int highest = -1, result;
    for (unsigned i = 0; i < count; i++) {
        int fd = entries[i].fd;
        if (fd > highest) highest = fd;
        if (entries[i].events & POLLIN) FD_SET(fd, &reads);
        if (entries[i].events & POLLOUT) FD_SET(fd, &writes);
        if (entries[i].events & POLLPRI) FD_SET(fd, &excepts);
    }
    struct timespec time = time_of(timeout_ms), *limit = timeout_ms < 0 ? NULL : &time;
    struct timeval limit_us = {time.tv_sec, time.tv_nsec / 1000};
    struct timeval *limit_of_select = timeout_ms < 0 ? NULL : &limit_us;
    struct { const void *mask; size_t size; } no_mask = {NULL, 0};
    switch (way) {
    case SELECT: result = select(highest + 1, &reads, &writes, &excepts, limit_of_select); break;
    case PSELECT: result = pselect(highest + 1, &reads, &writes, &excepts, limit, NULL); break;
#ifdef SYS_select
    case SYSCALL_SELECT:
        result = syscall(SYS_select, highest + 1, &reads, &writes, &excepts, limit_of_select);
        break;
#endif
    default:
        result = syscall(SYS_pselect6, highest + 1, &reads, &writes, &excepts, limit, &no_mask);
    }
    if (result < 0) return result;
    int bits = 0;
    for (unsigned i = 0; i < count; i++) {
        entries[i].revents = (FD_ISSET(entries[i].fd, &reads) ? POLLIN : 0)
            | (FD_ISSET(entries[i].fd, &writes) ? POLLOUT : 0)
            | (FD_ISSET(entries[i].fd, &excepts) ? POLLPRI : 0);
        bits += __builtin_popcount(entries[i].revents);
    }
    CHECK(bits == result, "select returns %d, and sets %d", result, bits);
    return result;
}

int poll_by(unsigned way, struct pollfd *entries, unsigned count, int timeout_ms) {
    struct timespec time = time_of(timeout_ms), *limit = timeout_ms < 0 ? NULL : &time;
    count_call();
    switch (way) {
    case POLL: return poll(entries, count, timeout_ms);
    case PPOLL: return ppoll(entries, count, limit, NULL);
    case POLL_CHK: return __poll_chk(entries, count, timeout_ms, count * sizeof *entries);
    case PPOLL_CHK: return __ppoll_chk(entries, count, limit, NULL, count * sizeof *entries);
    case SYSCALL_POLL: return poll_syscall(entries, count, timeout_ms);
    case SYSCALL_PPOLL: return syscall(SYS_ppoll, entries, count, limit, NULL, 0);
    default: return select_by(way, entries, count, timeout_ms);
    }
}

int poll_unseen(struct pollfd *entries, unsigned count, int timeout_ms) {
    struct timespec time = time_of(timeout_ms), *limit = timeout_ms < 0 ? NULL : &time;
    long result = raw(SYS_ppoll, entries, count, limit, NULL, 0);
    errno = result < 0 ? -result : 0;
    return result < 0 ? -1 : result;
}

enum { WAIT, PWAIT, PWAIT2, SYSCALL_WAIT, SYSCALL_PWAIT, SYSCALL_PWAIT2, EPOLL_WAYS };

int epoll_wait_by(int fd, struct epoll_event *events, int capacity, int timeout_ms,
                  struct random *random) {
    struct timespec time = time_of(timeout_ms), *limit = timeout_ms < 0 ? NULL : &time;
    sigset_t mask, *masked = once_in(random, 2) ? &mask : NULL;
    sigemptyset(&mask);
    count_call();
    switch (below(random, EPOLL_WAYS)) {
    case WAIT: return epoll_wait(fd, events, capacity, timeout_ms);
    case PWAIT: return epoll_pwait(fd, events, capacity, timeout_ms, masked);
    case PWAIT2: return epoll_pwait2(fd, events, capacity, limit, masked);
#ifdef SYS_epoll_wait
    case SYSCALL_WAIT: return syscall(SYS_epoll_wait, fd, events, capacity, timeout_ms);
#endif
    case SYSCALL_PWAIT2: return syscall(SYS_epoll_pwait2, fd, events, capacity, limit, masked, 8);
    default: return syscall(SYS_epoll_pwait, fd, events, capacity, timeout_ms, masked, 8);
    }
}

int epoll_wait_unseen(int fd, struct epoll_event *events, int capacity, int timeout_ms) {
    long result = raw(SYS_epoll_pwait, fd, events, capacity, timeout_ms, NULL, 8);
    errno = result < 0 ? -result : 0;
    return result < 0 ? -1 : result;
}
