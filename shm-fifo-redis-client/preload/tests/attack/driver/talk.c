#include "raw.h"

#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* What every ring holds, however small. */
enum { ROOM = 4096 };

static void pause_a_moment(void) {
    struct { long s, ns; } moment = {0, 50000};
    raw(SYS_nanosleep, &moment, NULL);
}

int write_rest(struct connection *c, size_t count, struct random *random) {
    int flags = (once_in(random, 3) ? MSG_NOSIGNAL : 0) | (once_in(random, 4) ? MSG_DONTWAIT : 0);
    unsigned way = any_way_to_write(random, flags);
    int fd = any_name(c, random), waits = !c->nonblocking && !(flags & MSG_DONTWAIT);
    int by_itself = c->style == UNSEEN && once_in(random, 2), before = broken_pipes;
    if (waits && c->style == HOOKED) seen_waiting(c);
    errno = 0;
    long result;
    if (by_itself) {
        result = raw(SYS_sendto, fd, c->rest.data, count, flags, NULL, 0);
        if (result < 0) errno = -result, result = -1;
    } else {
        result = write_by(way, fd, c->rest.data, count, flags, random);
    }
    int error = result < 0 ? errno : 0, raised = broken_pipes - before;
    say("c%d: %s(%d, %zu bytes, %#x): %ld (errno %d)", (int)c->generator.id,
        by_itself ? "its own sendto" : names_of_writes[way], fd, count, flags, result, error);
    int may_break = c->shut_writing || c->server_end == CLOSED || perhaps_ended(c);
    int must_break = c->shut_writing || c->server_end == CLOSED && !c->is_tcp;
    if (error == EPIPE || error == ECONNRESET) {
        CHECK(may_break, "write: errno %d, and nobody has ended it", error);
        int signals = error == EPIPE && !(flags & MSG_NOSIGNAL && strstr(names_of_writes[way], "send"));
        CHECK(!!raised == signals, "write: errno %d, SIGPIPE came %d times", error, raised);
        if (!c->shut_writing) sync_with_server(c);
        return 1;
    }
    CHECK(!must_break || count == 0, "write: %ld (errno %d), and it has ended", result, error);
    /* Of several messages, the first may be what breaks a TCP connection. */
    CHECK(!raised || may_break && strstr(names_of_writes[way], "sendmmsg"), "SIGPIPE came, and the write succeeded");
    if (error == EAGAIN) {
        CHECK(!waits, "a write that waits says EAGAIN");
        CHECK(c->written > c->consumed || c->is_full, "write: EAGAIN, and nothing is on its way");
        c->is_full = 2;
        was_full(c);
        return 0;
    }
    CHECK(result >= 0 && result <= (long)count, "write of %zu: %ld (errno %d)", count, result, error);
    int is_whole = result == (long)count;
    if (!is_whole && !(waits && has_timer) && !may_break) {
        CHECK(!waits, "a write that waits was cut: %ld of %zu", result, count);
        CHECK(c->written > c->consumed || c->is_full || result >= ROOM, "write: %ld of %zu, and there is room",
              result, count);
        c->is_full = 2;
    }
    was_written(c, result);
    was_used(c);
    return is_whole;
}

static void any_request(struct connection *c, struct random *random) {
    size_t size = once_in(random, 6) ? length_up_to(random, 3000) : length_up_to(random, 100);
    switch (below(random, 20)) {
    default: add_request(c, ECHO, size, 0); break;
    case 0: case 1: case 2: add_request(c, PING, 0, 0); break;
    case 3: case 4: case 5: add_request(c, INCR, 0, 0); break;
    case 6: case 7: add_request(c, SET, size, 0); break;
    case 8: case 9: add_request(c, GETRANGE, length_up_to(random, 20000), 0); break;
    case 10: case 11: add_request(c, PIECES, size, 1 + length_up_to(random, 700) + size / 20); break;
    case 12: add_request(c, LATE, below(random, 500), 0); break;
    case 13: case 14: add_request(c, PUSHED, size, 0); break;
    case 15:
        if (once_in(random, 8)) add_request(c, once_in(random, 3) ? HALFQUIT : QUIT, 0, 0);
        break;
    }
}

void send_something(struct random *random) {
    struct connection *c = any_connection(random);
    int syncs = once_in(random, 2), begun = once_in(random, 5);
    if (!c || c->shut_reading) return;
    if (!c->rest.length && !c->ends_by) {
        if (c->server_end != NOT_ENDED || c->shut_writing) {
            if (once_in(random, 3)) any_request(c, random);
            journal->connections[c->generator.id].may_be_lost = 1;
        } else if (coming(c) < 100000) {
            for (int count = 1 + (once_in(random, 4) ? below(random, 6) : 0); count > 0 && !c->ends_by; count--)
                any_request(c, random);
        }
    }
    if (!c->rest.length) return;
    size_t count = begun ? below(random, c->rest.length) : c->rest.length;
    write_rest(c, count, random);
    if (syncs) sync_with_server(c);
}

/* ---- reading ---- */

/* Reads once, and checks what comes. Returns what the call returned. */
static long read_once(struct connection *c, size_t size, int flags, struct random *random) {
    static char buffer[1 << 20];
    unsigned way = any_way_to_read(random, flags);
    int fd = any_name(c, random), waits = !c->nonblocking && !(flags & MSG_DONTWAIT);
    int by_itself = c->style == UNSEEN && once_in(random, 2);
    uint64_t least = surely_unread(c), most = perhaps_unread(c);
    if (c->is_tcp && least > 1) least = 1; /* the rest may be on its way */
    if (size > sizeof buffer) size = sizeof buffer;
    /* Any number of messages may be received; a program sees how many. */
    if (least > 1 && !by_itself && strstr(names_of_reads[way], "recvmmsg")) least = 1;
    if (waits && c->style == HOOKED) seen_waiting(c);
    long result;
    int error, tries = 0;
    do {
        if (tries) pause_a_moment();
        errno = 0;
        if (by_itself) {
            result = raw(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
            if (result < 0) errno = -result, result = -1;
        } else {
            result = read_by(way, fd, buffer, size, flags, random);
        }
        error = result < 0 ? errno : 0;
        if (tries == 0 || result > 0)
            say("c%d: %s(%d, %zu bytes, %#x): %ld (errno %d); %llu to %llu are there", (int)c->generator.id,
                by_itself ? "its own recvfrom" : names_of_reads[way], fd, size, flags, result, error,
                (unsigned long long)least, (unsigned long long)most);
        if (has_timer && error == EINTR && c->receive_timeout_ms) return result;
    } while (error == EAGAIN && (least || c->server_end != NOT_ENDED) && c->is_tcp && ++tries < 4000);
    was_used(c);
    if (result > 0) {
        CHECK(result <= (long)size && (uint64_t)result <= most, "read %ld of %zu, and at most %llu are there",
              result, size, (unsigned long long)most);
        uint64_t at_least = least < size ? least : size;
        CHECK((uint64_t)result >= at_least, "read %ld of %zu, and %llu are there", result, size,
              (unsigned long long)least);
        was_read(c, buffer, result, flags & MSG_PEEK);
        if (flags & MSG_WAITALL && waits && !(flags & MSG_PEEK) && !perhaps_ended(c) && !has_timer && !c->shut_reading
            && !c->receive_timeout_ms)
            CHECK(result == (long)size, "MSG_WAITALL: %ld of %zu", result, size);
        return result;
    }
    if (result == 0) {
        if (!size) return 0;
        CHECK(c->shut_reading || perhaps_ended(c), "end of file, and nobody has ended it");
        CHECK(!least || c->shut_reading || c->is_tcp && perhaps_ended(c), "end of file, and %llu bytes are there", (unsigned long long)least);
        if (!c->is_synced || c->server_end == NOT_ENDED) sync_with_server(c);
        /* What is unsent breaks a TCP connection. */
        int is_broken = c->is_tcp && c->server_end == CLOSED;
        CHECK(c->shut_reading || is_broken || c->server_end != NOT_ENDED && !surely_unread(c),
              "end of file, and the server has not ended it, or %llu bytes are there",
              (unsigned long long)surely_unread(c));
        return 0;
    }
    if (error == EAGAIN) {
        CHECK(!waits || c->receive_timeout_ms, "a read that waits says EAGAIN");
        CHECK(!least, "EAGAIN, and %llu bytes are there", (unsigned long long)least);
        CHECK(c->server_end == NOT_ENDED && !c->shut_reading, "EAGAIN at the end of file");
        was_empty(c);
        return -1;
    }
    CHECK((error == ECONNRESET || error == EPIPE) && (c->server_end == CLOSED || perhaps_ended(c)),
          "read: errno %d", error);
    /* Some calls tell of a TCP connection's end before what came before it; recvmmsg of any. */
    int is_early = c->is_tcp || !by_itself && strstr(names_of_reads[way], "recvmmsg");
    CHECK(!least || is_early, "errno %d, and %llu bytes are there", error, (unsigned long long)least);
    sync_with_server(c);
    return -1;
}

void receive_something(struct random *random) {
    struct connection *c = any_connection(random);
    static const int any_flags[] = {0, 0, 0, MSG_DONTWAIT, MSG_PEEK, MSG_PEEK | MSG_DONTWAIT, MSG_WAITALL,
                                    MSG_NOSIGNAL};
    int flags = any_flags[below(random, 8)], syncs = once_in(random, 3);
    size_t size = 1 + (once_in(random, 3) ? length_up_to(random, 100000) : length_up_to(random, 300));
    if (!c) return;
    if (syncs) sync_with_server(c);
    int ends = c->server_end != NOT_ENDED || c->shut_reading;
    if (!c->nonblocking && !ends && !c->receive_timeout_ms && !coming(c)) flags |= MSG_DONTWAIT;
    if (flags & MSG_WAITALL && !ends && size > coming(c)) size = coming(c) ? coming(c) : 1;
    read_once(c, size, flags, random);
}

void read_all(struct connection *c, struct random *random) {
    while (c->is_live && coming(c) && !c->shut_reading) {
        if (c->nonblocking) sync_with_server(c);
        if (read_once(c, 1 + length_up_to(random, 200000), 0, random) == 0) break;
    }
}
