#include "raw.h"

#include "object.h"

#include "watch.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct object objects[MAX_OBJECTS];

struct object *any_object(struct random *random) {
    struct object *best = NULL;
    uint64_t choice = any(random), most = 0;
    for (int i = 0; i < MAX_OBJECTS; i++) {
        uint64_t preferred = preference(choice, objects[i].made);
        if (objects[i].is_live && (!best || preferred > most)) best = &objects[i], most = preferred;
    }
    return best;
}

struct object *new_object(struct random *random) {
    enum object_kind kind = below(random, 3);
    for (int i = 0; i < MAX_OBJECTS; i++) {
        struct object *object = &objects[i];
        if (object->is_live) continue;
        int fds[2] = {-1, -1};
        switch (kind) {
        case PIPE:
            CHECK(CALL(pipe2(fds, O_NONBLOCK | O_CLOEXEC)) == 0, "pipe2: errno %d", errno);
            break;
        case PAIR:
            CHECK(CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)) == 0,
                  "socketpair: errno %d", errno);
            break;
        case EVENT:
            fds[0] = CALL(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
            CHECK(fds[0] >= 0, "eventfd: errno %d", errno);
            break;
        }
        *object = (struct object){1, journal->steps, kind, fds[0], fds[1], 0};
        say("object %d: kind %d, fds %d and %d", i, kind, fds[0], fds[1]);
        return object;
    }
    return NULL;
}

struct ready readiness_of_object(const struct object *object) {
    struct ready ready = {0, 0};
    if (object->unread) ready.must |= POLLIN;
    if (object->unread && object->kind != EVENT) ready.must |= POLLRDNORM;
    if (object->kind != PIPE) ready.must |= POLLOUT;
    ready.may = ready.must | (object->kind == PAIR ? POLLWRNORM | POLLWRBAND : 0);
    return ready;
}

void use_object(struct object *object, struct random *random) {
    char bytes[64] = "text";
    int index = object - objects;
    switch (below(random, 4)) {
    case 0:
    case 1:
        if (object->unread > 1000) break;
        if (object->kind == EVENT) {
            uint64_t one = 1;
            CHECK(raw(SYS_write, object->fd, &one, 8) == 8, "eventfd");
        } else {
            CHECK(raw(SYS_write, object->other, bytes, 4) == 4, "object");
        }
        object->unread += object->kind == EVENT ? 1 : 4;
        object_has_news(object);
        say("object %d has %d more", index, object->kind == EVENT ? 1 : 4);
        break;
    case 2: {
        long count = read_by(any_way_to_read_a_file(random), object->fd, bytes, sizeof bytes, 0, random);
        int error = errno;
        uint64_t there = object->unread;
        if (object->kind == EVENT) {
            CHECK(there ? count == 8 && *(uint64_t *)bytes == there : count == -1 && error == EAGAIN,
                  "object %d: read %ld (errno %d), %d is there", index, count, error, (int)there);
            object->unread = 0;
        } else {
            uint64_t most = there < sizeof bytes ? there : sizeof bytes;
            CHECK(there ? count == (long)most : count == -1 && error == EAGAIN,
                  "object %d: read %ld (errno %d), %d is there", index, count, error, (int)there);
            if (count > 0) object->unread -= count;
        }
        break;
    }
    case 3:
        say("object %d is closed", index);
        forget_watches_of_object(object);
        object->is_live = 0;
        close_by(any_way_to_close(random), object->fd, random);
        if (object->other >= 0) CALL(close(object->other));
        break;
    }
}
