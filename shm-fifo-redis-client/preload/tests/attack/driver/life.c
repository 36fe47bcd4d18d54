#include "raw.h"

#include "control.h"
#include "object.h"
#include "steps.h"
#include "ways.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- coming ---- */

static int new_socket(int is_tcp, int flags) {
    int fd = CALL(socket(is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM | flags, 0));
    CHECK(fd >= 0, "socket: errno %d", errno);
    return fd;
}

static int connect_socket(int fd, int is_tcp) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons(tcp_port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    strncpy(unix_address.sun_path, unix_path, sizeof unix_address.sun_path - 1);
    count_call();
    return is_tcp ? connect(fd, (struct sockaddr *)&tcp, sizeof tcp)
                  : connect(fd, (struct sockaddr *)&unix_address, sizeof unix_address);
}

int connect_to(int is_tcp, int flags) {
    int fd = new_socket(is_tcp, flags);
    CHECK(connect_socket(fd, is_tcp) == 0, "connect: errno %d", errno);
    return fd;
}

/* Until it is connected, as programs do it that never wait. */
static void finish_connecting(int fd, enum style style) {
    struct pollfd entry = {.fd = fd, .events = POLLOUT};
    int count = style == HOOKED ? CALL(poll(&entry, 1, -1)) : poll_unseen(&entry, 1, -1);
    CHECK(count == 1 && entry.revents == POLLOUT || was_interrupted(count), "connecting: %d, %#x", count,
          entry.revents);
    int error = 1;
    socklen_t length = sizeof error;
    CHECK(CALL(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)) == 0 && error == 0,
          "connecting: error %d", error);
}

static void watch_before(struct connection *c, struct instance *instance, struct random *random) {
    static const unsigned wanted[] = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, EPOLLIN, EPOLLIN | EPOLLET,
                                      EPOLLIN | EPOLLOUT | EPOLLONESHOT};
    watch_for(instance, c, c->fds[0], wanted[below(random, 4)], random);
}

void open_connection(struct random *random) {
    struct connection *c = connections;
    while (c < connections + MAX_LIVE && c->is_live) c++;
    int is_tcp = once_in(random, 4) ? !endpoint_is_tcp : endpoint_is_tcp;
    enum style style = once_in(random, 10) ? UNSEEN : HOOKED;
    int nonblocking = style == UNSEEN || once_in(random, 2);
    int mode = below(random, 3), watched = once_in(random, 4);
    struct instance *instance = any_instance(random);
    if (c == connections + MAX_LIVE) return;
    free(c->rest.data), free(c->request_ends.data), free(c->reply_lengths.data);
    free(c->replies.data), free(c->lengths.data);
    *c = (struct connection){.is_live = 1, .is_tcp = is_tcp, .is_endpoint = both_are_endpoints || is_tcp == endpoint_is_tcp,
                             .style = style, .nonblocking = nonblocking, .names = 1,
                             .generator.id = journal->steps, .is_synced = 1};
    int fd = c->fds[0] = new_socket(is_tcp, (nonblocking && mode ? SOCK_NONBLOCK : 0) | SOCK_CLOEXEC);
    if (watched && instance && instance->style == style) watch_before(c, instance, random);
    int result = connect_socket(fd, is_tcp);
    say("c%d: fd %d, %s%s%s%s", (int)c->generator.id, fd, is_tcp ? "TCP" : "unix",
        c->is_endpoint ? "" : ", elsewhere", nonblocking ? ", non-blocking" : "",
        style == UNSEEN ? ", waited for unseen" : "");
    CHECK(result == 0 || errno == EINPROGRESS, "connect: errno %d", errno);
    if (result) {
        if (style == HOOKED) seen_waiting(c);
        finish_connecting(fd, style);
    }
    if (nonblocking && !mode) {
        int on = 1;
        CHECK(CALL(ioctl(fd, FIONBIO, &on)) == 0, "FIONBIO: errno %d", errno);
    }
    /* The harness has to know which one it is. */
    add_request(c, ID, 0, 0);
    while (!write_rest(c, c->rest.length, random)) {}
    sync_with_server(c);
    space_has_come(c);
}

void duplicate(struct random *random) {
    struct connection *c = any_connection(random);
    struct instance *instance = any_instance(random);
    if (once_in(random, 4) && instance && instance->names < MAX_NAMES && !is_watched(instance)
        && (!instance->is_born_unseen || instance->style == UNSEEN)) {
        int fd = instance->fds[0];
        int copy = instance->style == UNSEEN ? raw(SYS_dup, fd) : dup_by(fd, random);
        CHECK(copy >= 0, "dup of %d: errno %d", fd, errno);
        instance->fds[instance->names++] = copy;
        say("instance %d is %d as well", (int)(instance - instances), copy);
    } else if (c && c->names < MAX_NAMES) {
        int fd = any_name(c, random);
        int copy = dup_by(fd, random);
        CHECK(copy >= 0, "dup of %d: errno %d", fd, errno);
        c->fds[c->names++] = copy;
        say("c%d is %d as well", (int)c->generator.id, copy);
    }
}

/* ---- going ---- */

void wait_for_end(struct connection *c) {
    struct answer answer = control(WAIT_FOR_END, c->generator.id, 0, 0);
    CHECK(!(answer.flags & IN_VAIN), "c%d was closed, and the server has not noticed", (int)c->generator.id);
}

static void lose_name(struct connection *c, int index, unsigned way, struct random *random) {
    int fd = c->fds[index];
    c->fds[index] = c->fds[--c->names];
    number_is_closed(c, fd);
    say("c%d: %d is closed by %s, %d left", (int)c->generator.id, fd, names_of_closes[way], c->names);
    if (!c->names) {
        /* Nobody is there to send what a refusal of SHM.START leaves unsent. */
        if (c->refuses_start && !is_plain) journal->connections[c->generator.id].may_be_lost = 1;
        /* What the program leaves unread breaks a TCP connection. */
        if (c->is_tcp && (!c->is_synced || surely_unread(c)))
            journal->connections[c->generator.id].may_be_lost = 1;
        forget_watches_of(c, way == CLOSED_UNSEEN);
        c->is_live = 0;
    }
    close_by(way, fd, random);
}

void close_all(struct connection *c, unsigned last_way, struct random *random) {
    while (c->names > 1) lose_name(c, below(random, c->names), 1 + any_way_to_close(random) % 4, random);
    lose_name(c, 0, last_way, random);
}

void close_connection(struct random *random) {
    struct connection *c = any_connection(random);
    struct instance *instance = any_instance(random);
    unsigned way = any_way_to_close(random);
    unsigned seen = way == CLOSED_UNSEEN ? CLOSED_UNSEEN + 1 : way;
    if (once_in(random, 4) && instance) {
        int index = below(random, instance->names), fd = instance->fds[index];
        instance->fds[index] = instance->fds[--instance->names];
        say("instance %d: %d is closed, %d left", (int)(instance - instances), fd, instance->names);
        if (!instance->names) forget_instance(instance);
        if (instance->style == UNSEEN) raw(SYS_close, fd);
        else close_by(seen, fd, random);
    } else if (c && c->names > 1 && !once_in(random, 3)) {
        lose_name(c, below(random, c->names), seen, random);
    } else if (c) {
        close_all(c, seen, random);
        wait_for_end(c);
    }
}

void end_by_server(struct random *random) {
    struct connection *c = any_connection(random);
    int halves = once_in(random, 3), first = below(random, 3);
    if (!c || c->server_end != NOT_ENDED || c->ends_by || c->rest.length) return;
    if (first) sync_with_server(c);
    if (c->server_end != NOT_ENDED || c->is_stuck) return;
    say("c%d: the server %s", (int)c->generator.id, halves ? "sends no more" : "closes");
    if (halves) {
        c->ends_by = HALFQUIT;
    } else {
        c->may_die = 1;
        journal->connections[c->generator.id].may_be_lost = 1;
    }
    control(halves ? END_SENDING : CLOSE, c->generator.id, 0, 0);
    sync_with_server(c);
}

void shut_down(struct random *random) {
    struct connection *c = any_connection(random);
    int how = once_in(random, 2) ? SHUT_WR : below(random, 3);
    if (!c || c->server_end != NOT_ENDED || c->rest.length || c->shut_reading || c->shut_writing) return;
    sync_with_server(c);
    if (c->server_end != NOT_ENDED || c->is_stuck || c->ends_by || c->withholds) return;
    /* It hears of it with the next call. */
    if (c->refuses_start && !is_plain) return;
    int result = CALL(shutdown(any_name(c, random), how));
    say("c%d: shutdown(%s): %d", (int)c->generator.id,
        how == SHUT_RD ? "RD" : how == SHUT_WR ? "WR" : "RDWR", result);
    if (result < 0 && errno == ENOTCONN && perhaps_ended(c)) {
        sync_with_server(c);
        return;
    }
    CHECK(result == 0, "shutdown: errno %d", errno);
    if (how != SHUT_WR) c->shut_reading = 1;
    if (how != SHUT_RD) {
        c->shut_writing = 1;
        wait_for_end(c);
        sync_with_server(c);
    }
    end_has_come(c);
}
