#include "raw.h"

#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/uio.h>
#include <unistd.h>

static void set_nonblocking(struct connection *c, int on, struct random *random) {
    int fd = any_name(c, random), other = any_name(c, random);
    int flags = CALL(fcntl(fd, F_GETFL));
    CHECK(!!(flags & O_NONBLOCK) == c->nonblocking, "F_GETFL: %#x", flags);
    int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    count_call();
    int result;
    switch (below(random, 4)) {
    case 0: result = fcntl(other, F_SETFL, wanted); break;
    case 1: result = ioctl(other, FIONBIO, &on); break;
    case 2: result = syscall(SYS_fcntl, other, F_SETFL, wanted); break;
    default: result = syscall(SYS_ioctl, other, FIONBIO, &on); break;
    }
    CHECK(result == 0, "setting the mode: errno %d", errno);
    c->nonblocking = on;
    say("c%d is %s now", (int)c->generator.id, on ? "non-blocking" : "blocking");
}

void change_mode(struct random *random) {
    struct connection *c = any_connection(random);
    int on = below(random, 2), available = -1;
    if (!c || c->style == UNSEEN) return;
    if (once_in(random, 2)) {
        set_nonblocking(c, on, random);
        return;
    }
    sync_with_server(c);
    count_call();
    int by_syscall = once_in(random, 4);
    int result = by_syscall ? syscall(SYS_ioctl, any_name(c, random), FIONREAD, &available)
                            : ioctl(any_name(c, random), FIONREAD, &available);
    const char *how = by_syscall ? "syscall(ioctl)" : "ioctl";
    CHECK(result == 0, "%s(FIONREAD): errno %d", how, errno);
    CHECK((uint64_t)available == surely_unread(c) || c->is_tcp || c->is_stuck || c->shut_reading || !is_certain(c),
          "%s(FIONREAD): %d, and %llu bytes are there", how, available, (unsigned long long)surely_unread(c));
}

static void answer(const char *call, long result) {
    compare("%s: %ld, errno %d", call, result, result < 0 ? errno : 0);
}

/* Calls that are wrong, or seldom: their answers are those of the control run. */
void odd_call(struct random *random) {
    struct connection *c = any_connection(random);
    unsigned which = below(random, 22);
    char bytes[64] = {0};
    struct iovec part = {bytes, sizeof bytes};
    volatile int too_few = -1, too_many = 2000;
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    int number = 0;
    socklen_t number_length = sizeof number;
    struct stat status;
    struct linger linger = {0, 0};
    struct ucred credentials;
    socklen_t credentials_length = sizeof credentials;
    if (!c || c->style == UNSEEN || c->server_end != NOT_ENDED || c->shut_writing || c->shut_reading) return;
    read_all(c, random);
    sync_with_server(c);
    if (c->server_end != NOT_ENDED || !is_certain(c) || surely_unread(c)) return;
    int fd = any_name(c, random);
    errno = 0;
    count_call();
    switch (which) {
    case 0: answer("pread", pread(fd, bytes, 8, 0)); break;
    case 1: answer("pwrite", pwrite(fd, bytes, 8, 0)); break;
    case 2: answer("lseek", lseek(fd, 0, SEEK_CUR)); break;
    case 3: answer("fsync", fsync(fd)); break;
    case 4: answer("ftruncate", ftruncate(fd, 0)); break;
    case 5: answer("listen", listen(fd, 1)); break;
    case 6: answer("accept", accept(fd, NULL, NULL)); break;
    case 7: answer("preadv2 at 0", preadv2(fd, &part, 1, 0, 0)); break;
    case 8: answer("pwritev2 at 0", pwritev2(fd, &part, 1, 0, 0)); break;
    case 9: answer("read of nothing", read(fd, bytes, 0)); break;
    case 10: answer("write of nothing", write(fd, bytes, 0)); break;
    case 11: answer("readv of nothing", readv(fd, &part, 0)); break;
    case 12: answer("readv of -1", readv(fd, &part, too_few)); break;
    case 13: answer("writev of 2000", writev(fd, &part, too_many)); break;
    case 14:
        number = getsockopt(fd, SOL_SOCKET, SO_TYPE, &number, &number_length) ? -errno : number;
        compare("SO_TYPE: %d", number);
        break;
    case 15:
        number = getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &number_length) ? -errno : number;
        compare("SO_ERROR: %d", number);
        break;
    case 16:
        number = fstat(fd, &status);
        compare("fstat: %d, type %#o", number, status.st_mode & S_IFMT);
        break;
    case 17:
        number = getpeername(fd, (struct sockaddr *)&address, &length);
        compare("getpeername: %d, family %d", number, address.ss_family);
        break;
    case 18:
        number = getsockname(fd, (struct sockaddr *)&address, &length);
        compare("getsockname: %d, family %d", number, address.ss_family);
        break;
    case 19: answer("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger)); break;
    case 20:
        number = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_length);
        compare("SO_PEERCRED: %d, %d", number, number == 0 ? credentials.pid == (c->is_tcp ? 0 : getppid()) : errno);
        break;
    default:
        answer("recvfrom with an address",
               recvfrom(fd, bytes, 1, MSG_DONTWAIT | MSG_PEEK, (struct sockaddr *)&address, &length));
        was_empty(c);
    }
}
