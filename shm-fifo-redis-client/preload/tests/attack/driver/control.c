#include "raw.h"

#include "control.h"
#include "journal.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <fcntl.h>

static int stream = -1;

void control_open(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    stream = raw(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(raw(SYS_connect, stream, &address, sizeof address) == 0, "no server");
    /* Out of the way of the numbers that the steps use. */
    int away = raw(SYS_fcntl, stream, F_DUPFD_CLOEXEC, 900);
    raw(SYS_close, stream);
    stream = away;
}

struct answer control(enum operation operation, uint64_t id, uint64_t a, uint64_t b) {
    uint64_t frame[4] = {operation, id, a, b};
    struct answer answer;
    CHECK(raw(SYS_write, stream, frame, sizeof frame) == sizeof frame, "the server is gone");
    size_t have = 0;
    while (have < sizeof answer) {
        long count = raw(SYS_read, stream, (char *)&answer + have, sizeof answer - have);
        if (count == -4 /* EINTR */) continue;
        CHECK(count > 0, "the server is gone");
        have += count;
    }
    CHECK(!(answer.flags & HAS_FAULT), "the server has found a fault");
    return answer;
}
