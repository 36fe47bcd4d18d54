#include "raw.h"

#include "model.h"

#include "control.h"
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct connection connections[MAX_LIVE];
const char *unix_path;
int tcp_port, endpoint_is_tcp, both_are_endpoints, is_plain;

static const char SCRIPT_PUSH[] = ">1\r\n$6\r\nSCRIPT\r\n";
enum { SCRIPT_PUSH_LENGTH = sizeof SCRIPT_PUSH - 1, SCRIPT_PUSHES_AT_MOST = 16 };

/* ---- what there is ---- */

uint64_t surely_unread(const struct connection *c) { return c->arrived - c->taken; }

uint64_t coming(const struct connection *c) {
    if (c->server_end != NOT_ENDED) return surely_unread(c);
    uint64_t to_come = c->withholds ? c->withheld_bytes : c->expected;
    uint64_t taken = c->taken - c->taken_of_scripts;
    return to_come > taken ? to_come - taken : 0;
}

/* A step of a move goes out in any call, and the server may push by it, or die of it. */
static int may_push_yet(const struct connection *c) { return c->may_push && !is_plain; }
static int may_die_yet(const struct connection *c) { return c->may_die && !is_plain; }

int is_certain(const struct connection *c) { return c->is_synced && !may_push_yet(c) && !may_die_yet(c); }

uint64_t perhaps_unread(const struct connection *c) {
    if (c->is_synced && !c->is_stuck && !may_push_yet(c)) return surely_unread(c);
    uint64_t pushes = (c->is_synced ? c->may_push : c->pushes) && !is_plain ? SCRIPT_PUSHES_AT_MOST * SCRIPT_PUSH_LENGTH : 0;
    uint64_t most = coming(c) + pushes;
    return most > surely_unread(c) ? most : surely_unread(c);
}

int perhaps_ended(const struct connection *c) {
    return c->server_end != NOT_ENDED || may_die_yet(c) || !c->is_synced && c->ends_by;
}

enum { IN = POLLIN | POLLRDNORM, OUT = POLLOUT | POLLWRNORM };

struct ready readiness(const struct connection *c) {
    struct ready ready = {0, 0};
    int has_ended = c->server_end != NOT_ENDED || c->shut_reading;
    int may_have_ended = has_ended || perhaps_ended(c);
    /* Over TCP what the server sends may take a moment. */
    if (surely_unread(c) > 0 || has_ended) ready.must |= IN;
    if (perhaps_unread(c) > 0 || may_have_ended) ready.may |= IN;
    if (has_ended) ready.must |= POLLRDHUP;
    if (may_have_ended) ready.may |= POLLRDHUP;
    int both = has_ended && c->shut_writing || c->server_end == CLOSED && !c->is_tcp;
    if (both) ready.must |= POLLHUP;
    if (may_have_ended) ready.may |= POLLHUP | POLLERR;
    if (c->written == c->consumed && !c->is_full) ready.must |= POLLOUT | POLLWRNORM;
    if (c->is_full != 1 || c->is_tcp || may_have_ended) ready.may |= OUT | POLLWRBAND;
    ready.may |= ready.must;
    return ready;
}

/* ---- which one ---- */

struct connection *any_connection(struct random *random) {
    struct connection *best = NULL;
    uint64_t choice = any(random), most = 0;
    for (int i = 0; i < MAX_LIVE; i++) {
        struct connection *c = &connections[i];
        uint64_t preferred = preference(choice, c->generator.id);
        if (c->is_live && (!best || preferred > most)) best = c, most = preferred;
    }
    return best;
}

int any_name(const struct connection *c, struct random *random) {
    unsigned choice = any(random) >> 8;
    return c->fds[choice % c->names];
}

void seen_waiting(const struct connection *c) {
    journal->connections[c->generator.id].seen_waiting = 1;
}

/* ---- what is written ---- */

void add_request(struct connection *c, enum kind kind, size_t size, size_t extra) {
    size_t replies_before = c->replies.length;
    generate(&c->generator, kind, size, extra, &c->rest, &c->replies);
    uint64_t end = c->written + c->rest.length;
    uint32_t length = c->replies.length - replies_before;
    append_bytes(&c->request_ends, &end, sizeof end);
    append_bytes(&c->reply_lengths, &length, sizeof length);
    append_bytes(&c->lengths, &length, sizeof length);
    if (kind == WITHHOLD) {
        c->withholds = 1;
        c->withheld_requests = c->generator.requests;
        /* What is expected once all before it is written. */
        c->withheld_bytes = c->expected;
        const uint32_t *lengths = (const uint32_t *)c->reply_lengths.data;
        for (size_t i = 0; i + 1 < c->reply_lengths.length / sizeof *lengths; i++)
            c->withheld_bytes += lengths[i];
    }
    if (kind == QUIT || kind == HALFQUIT) c->ends_by = kind;
}

/* It comes before the replies to what is not written yet. */
void add_push(struct connection *c, size_t size) {
    struct bytes message = {0}, replies = {0}, lengths = {0};
    size_t later = 0, count = c->reply_lengths.length / sizeof(uint32_t);
    for (size_t i = 0; i < count; i++) later += ((const uint32_t *)c->reply_lengths.data)[i];
    pushed_message(size, &message);
    uint32_t length = message.length;
    append_bytes(&replies, c->replies.data + c->replies.length - later, later);
    append_bytes(&lengths, c->reply_lengths.data, c->reply_lengths.length);
    c->replies.length -= later;
    c->lengths.length -= lengths.length;
    append_bytes(&c->replies, message.data, message.length);
    append_bytes(&c->replies, replies.data, replies.length);
    append_bytes(&c->lengths, &length, sizeof length);
    append_bytes(&c->lengths, lengths.data, lengths.length);
    free(message.data), free(replies.data), free(lengths.data);
    c->expected += length;
    c->is_synced = 0;
}

void was_written(struct connection *c, size_t count) {
    if (!count) return;
    drop_front(&c->rest, count);
    c->written += count;
    c->is_synced = 0;
    size_t done = 0;
    const uint64_t *ends = (const uint64_t *)c->request_ends.data;
    const uint32_t *lengths = (const uint32_t *)c->reply_lengths.data;
    for (; done < c->request_ends.length / sizeof *ends && ends[done] <= c->written; done++)
        c->expected += lengths[done];
    drop_front(&c->request_ends, done * sizeof *ends);
    drop_front(&c->reply_lengths, done * sizeof *lengths);
    c->requests += done;
    __atomic_store_n(&journal->connections[c->generator.id].requests, c->requests, __ATOMIC_RELEASE);
}

/* ---- what is read ---- */

static void expect(struct connection *c, struct cursor *cursor, char byte) {
    CHECK(cursor->at < c->replies.length, "c%d: read %#x, and nothing more was to come",
          (int)c->generator.id, (unsigned char)byte);
    CHECK(c->replies.data[cursor->at] == byte,
          "c%d: read %#x instead of %#x, %zu bytes into reply %zu of those outstanding",
          (int)c->generator.id, (unsigned char)byte, (unsigned char)c->replies.data[cursor->at],
          cursor->in_value, cursor->value);
    cursor->at++;
    if (++cursor->in_value == ((const uint32_t *)c->lengths.data)[cursor->value]) {
        cursor->in_value = 0;
        cursor->value++;
    }
}

void was_read(struct connection *c, const char *data, size_t count, int peeked) {
    struct cursor cursor = c->cursor;
    unsigned of_scripts = 0;
    for (size_t i = 0; i < count; i++) {
        if (cursor.perhaps) {
            cursor.perhaps = 0;
            if (data[i] == '1') {
                cursor.script = 2;
                of_scripts += 2;
                continue;
            }
            expect(c, &cursor, '>');
        } else if (cursor.script) {
            CHECK(data[i] == SCRIPT_PUSH[cursor.script], "c%d: a push is cut", (int)c->generator.id);
            of_scripts++;
            if (++cursor.script == SCRIPT_PUSH_LENGTH) cursor.script = 0;
            continue;
        } else if (data[i] == '>' && cursor.in_value == 0 && c->pushes) {
            cursor.perhaps = 1;
            continue;
        }
        expect(c, &cursor, data[i]);
    }
    if (peeked) return;
    c->cursor = cursor;
    drop_front(&c->replies, cursor.at);
    drop_front(&c->lengths, cursor.value * sizeof(uint32_t));
    c->cursor.at = c->cursor.value = 0;
    c->taken += count;
    c->taken_of_scripts += of_scripts;
    if (c->taken > c->arrived) c->arrived = c->taken;
    if (c->is_stuck && count) {
        c->is_synced = 0;
        edges_are_uncertain(c);
    }
    if (c->is_synced && c->arrived == c->taken) edges_are_over(c);
}

/* ---- the server ---- */

/* What was written before a refusal of SHM.START goes to the socket when the program makes its
 * next call: it makes some, until that has come. */
static void make_calls(const struct connection *c, uint64_t requests) {
    enum { PATIENCE = 10000 };
    for (int i = 0; i < PATIENCE; i++) {
        struct answer answer = control(AT_ONCE | SYNC, c->generator.id, c->written, requests);
        if (!(answer.flags & IN_VAIN)) return;
        struct pollfd entry = {.fd = c->fds[0], .events = 0};
        poll(&entry, 1, 1);
    }
}

void sync_with_server(struct connection *c) {
    if (c->is_held) return;
    uint64_t requests = c->withholds && c->withheld_requests < c->requests ? c->withheld_requests : c->requests;
    if (c->refuses_start && !is_plain && c->is_live && c->style == HOOKED) {
        seen_waiting(c);
        make_calls(c, requests);
    }
    struct answer answer = control(SYNC, c->generator.id, c->written, requests);
    CHECK(!(answer.flags & IN_VAIN),
          "c%d: %llu bytes of %llu requests are written, the server has got %llu bytes and executed %llu (moved %d)",
          (int)c->generator.id, (unsigned long long)c->written, (unsigned long long)c->requests,
          (unsigned long long)answer.bytes_in, (unsigned long long)answer.requests,
          !!(answer.flags & HAS_MOVED));
    uint64_t arrived = answer.bytes_out + answer.script_bytes_out;
    CHECK(c->taken <= arrived, "c%d: more was read than sent", (int)c->generator.id);
    int is_news = arrived > c->arrived;
    c->arrived = arrived;
    c->consumed = answer.bytes_in < c->written ? answer.bytes_in : c->written;
    c->is_synced = 1;
    c->is_stuck = !!(answer.flags & IS_STUCK);
    c->may_die = !!(answer.flags & MAY_DIE);
    c->may_push = !!(answer.flags & MAY_PUSH);
    c->pushes = !!(answer.flags & PUSHES);
    c->refuses_start = !!(answer.flags & REFUSES_START);
    if (c->is_full && c->consumed == c->written) {
        c->is_full = 0;
        space_has_come(c);
    }
    if (is_news) bytes_have_come(c);
    int had_ended = c->server_end == ENDED_SENDING;
    if (answer.flags & IS_CLOSED && c->server_end != CLOSED) {
        c->server_end = CLOSED;
        if (c->consumed < c->written || answer.requests < c->requests)
            journal->connections[c->generator.id].may_be_lost = 1;
        c->consumed = c->written;
        c->is_full = 0;
        c->is_stuck = 0;
        /* By TCP nothing is said of it. */
        if (!c->is_tcp || !had_ended) end_has_come(c);
    } else if (c->ends_by == HALFQUIT && !c->rest.length && !c->is_stuck && c->server_end == NOT_ENDED) {
        c->server_end = ENDED_SENDING;
        end_has_come(c);
    }
    say("c%d synced: %llu requests, %llu unread%s%s%s", (int)c->generator.id,
        (unsigned long long)answer.requests, (unsigned long long)surely_unread(c),
        answer.flags & HAS_MOVED ? ", moved" : "", c->is_stuck ? ", more follows" : "",
        c->server_end ? ", ended" : "");
}
