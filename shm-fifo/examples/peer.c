/*
 * A peer that is not written in Rust: it attaches to a region by what
 * docs/layout.md says, and sends back whatever it reads.
 *
 *     cc -std=c11 -O2 -o peer peer.c
 *
 * Its standard input is a unix socket, by which the region's descriptor comes, with
 * one byte, and which is the doorbell from then on. tests/c_peer.rs plays the other
 * side. It exits with 0 at the end of the stream, with 2 if what came is no region,
 * with 3 if its peer broke the protocol.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { HEADER_BYTES = 4096, INLINE_BYTES = 48, NO_REGION = 2, BROKEN = 3 };

/* "The region" */
struct region_header {
    _Atomic uint64_t magic;
    _Atomic uint64_t layout_version;
    _Atomic uint64_t ring_bytes;
    _Atomic uint64_t token[2];
};

/* "The FIFO header" */
struct fifo_header {
    alignas(128) _Atomic uint64_t inline_key;
    _Atomic uint64_t inline_words[INLINE_BYTES / 8];
    _Atomic uint64_t tail;
    _Atomic uint32_t producer_closed;
    alignas(128) _Atomic uint64_t head;
    _Atomic uint32_t consumer_closed;
    alignas(128) _Atomic uint32_t consumer_parked;
    _Atomic uint32_t consumer_cpu;
    alignas(128) _Atomic uint32_t producer_parked;
    _Atomic uint32_t producer_cpu;
};

_Static_assert(sizeof(struct fifo_header) == 512, "as in the table");
_Static_assert(offsetof(struct fifo_header, tail) == 56, "as in the table");
_Static_assert(offsetof(struct fifo_header, producer_closed) == 64, "as in the table");
_Static_assert(offsetof(struct fifo_header, consumer_closed) == 136, "as in the table");
_Static_assert(offsetof(struct fifo_header, consumer_cpu) == 260, "as in the table");
_Static_assert(offsetof(struct fifo_header, producer_cpu) == 388, "as in the table");

/* "What each side keeps in private memory" */
struct peer {
    int socket;
    bool socket_ended;
    uint64_t ring_bytes;
    /* The direction that is read. */
    struct fifo_header *in;
    const unsigned char *in_ring;
    uint64_t head, seen_tail, head_at_look;
    /* The direction that is written. */
    struct fifo_header *out;
    unsigned char *out_ring;
    uint64_t tail, seen_head;
};

_Noreturn static void fail(int status, const char *what) {
    fprintf(stderr, "peer: %s\n", what);
    exit(status);
}

static uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }

/* The descriptor that comes with a byte on `socket`. */
static int receive_descriptor(int socket) {
    char byte;
    struct iovec bytes = {&byte, 1};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {
        .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) fail(NO_REGION, "no message came");
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (!first || first->cmsg_type != SCM_RIGHTS || message.msg_flags & MSG_CTRUNC)
        fail(NO_REGION, "no single descriptor came with it");
    int fd;
    memcpy(&fd, CMSG_DATA(first), sizeof fd);
    return fd;
}

/* "Attaching", step by step. */
static struct peer attach(int fd, int socket) {
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK)) fail(NO_REGION, "not sealed");
    struct stat file;
    if (fstat(fd, &file) || file.st_size < HEADER_BYTES) fail(NO_REGION, "too small");
    struct region_header *header = mmap(NULL, HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED) fail(NO_REGION, "cannot be mapped");
    uint64_t magic = atomic_load_explicit(&header->magic, memory_order_relaxed);
    if (memcmp(&magic, "SHMFIFO", 8)) fail(NO_REGION, "no region");
    if (atomic_load_explicit(&header->layout_version, memory_order_relaxed) != 2)
        fail(NO_REGION, "another layout version");
    uint64_t ring_bytes = atomic_load_explicit(&header->ring_bytes, memory_order_relaxed);
    if (ring_bytes < 4096 || ring_bytes > 1 << 30 || ring_bytes & (ring_bytes - 1) ||
        HEADER_BYTES + 2 * ring_bytes != (uint64_t)file.st_size)
        fail(NO_REGION, "rings that do not make the file");
    munmap(header, HEADER_BYTES);

    size_t length = HEADER_BYTES + 2 * ring_bytes;
    unsigned char *region = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED) fail(NO_REGION, "cannot be mapped");
    madvise(region, length, MADV_DONTFORK);
    madvise(region, length, MADV_DONTDUMP);
    return (struct peer){
        .socket = socket,
        .ring_bytes = ring_bytes,
        .in = (struct fifo_header *)(region + 1536),
        .in_ring = region + HEADER_BYTES + ring_bytes,
        .out = (struct fifo_header *)(region + 1024),
        .out_ring = region + HEADER_BYTES,
    };
}

/* After a position was stored, or a closed word: rings a peer that sleeps. */
static void ring_if_parked(struct peer *peer, _Atomic uint32_t *parked) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(parked, memory_order_relaxed)) {
        atomic_store_explicit(parked, 0, memory_order_relaxed);
        send(peer->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* "Sleeping": until a doorbell, or the end of the socket. */
static void hear(struct peer *peer) {
    char bytes[256];
    ssize_t count = recv(peer->socket, bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) return;
    if (count <= 0) peer->socket_ended = true;
    for (ssize_t i = 0; i < count; i++)
        if (bytes[i]) fail(BROKEN, "a byte that is no doorbell");
}

static uint64_t available(struct peer *peer) {
    uint64_t tail = atomic_load_explicit(&peer->in->tail, memory_order_acquire);
    uint64_t bytes = tail - peer->head;
    if (bytes > peer->ring_bytes || bytes < peer->seen_tail - peer->head)
        fail(BROKEN, "an impossible tail");
    peer->seen_tail = tail;
    return bytes;
}

static uint64_t space(struct peer *peer) {
    uint64_t head = atomic_load_explicit(&peer->out->head, memory_order_acquire);
    uint64_t used = peer->tail - head;
    if (used > peer->tail - peer->seen_head) fail(BROKEN, "an impossible head");
    peer->seen_head = head;
    return peer->ring_bytes - used;
}

static void sleep_for_data(struct peer *peer) {
    peer->head_at_look = peer->head;
    ring_if_parked(peer, &peer->in->producer_parked);
    atomic_store_explicit(&peer->in->consumer_parked, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!available(peer) && !atomic_load_explicit(&peer->in->producer_closed, memory_order_acquire))
        hear(peer);
    atomic_store_explicit(&peer->in->consumer_parked, 0, memory_order_relaxed);
}

static void sleep_for_space(struct peer *peer) {
    peer->head_at_look = peer->head;
    ring_if_parked(peer, &peer->in->producer_parked);
    atomic_store_explicit(&peer->out->producer_parked, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (space(peer) < peer->ring_bytes / 4 &&
        !atomic_load_explicit(&peer->out->consumer_closed, memory_order_acquire))
        hear(peer);
    atomic_store_explicit(&peer->out->producer_parked, 0, memory_order_relaxed);
}

/* "Reading", step 2: the message at the head, if it is inline. */
static bool take_inline(struct peer *peer, unsigned char *target, uint64_t length) {
    uint64_t words[INLINE_BYTES / 8];
    if (!length || length > INLINE_BYTES) return false;
    for (int i = 0; i < INLINE_BYTES / 8; i++)
        words[i] = atomic_load_explicit(&peer->in->inline_words[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    uint64_t key = atomic_load_explicit(&peer->in->inline_key, memory_order_relaxed);
    if (key != (peer->head << 6 | length)) return false;
    memcpy(target, words, length);
    return true;
}

/* "Reading". Waits for at least a byte; 0 is the end of the stream. */
static uint64_t read_some(struct peer *peer, unsigned char *target, uint64_t length) {
    uint64_t there;
    for (;;) {
        bool ended = peer->socket_ended ||
                     atomic_load_explicit(&peer->in->producer_closed, memory_order_acquire);
        there = available(peer);
        if (there) break;
        if (ended) return 0;
        sleep_for_data(peer);
    }
    bool wants_all = there <= length;
    length = least(there, length);
    if (!wants_all || !take_inline(peer, target, length)) {
        uint64_t index = peer->head & (peer->ring_bytes - 1);
        uint64_t to_end = least(length, peer->ring_bytes - index);
        memcpy(target, peer->in_ring + index, to_end);
        memcpy(target + to_end, peer->in_ring, length - to_end);
    }
    peer->head += length;
    atomic_store_explicit(&peer->in->head, peer->head, memory_order_release);
    if (peer->head - peer->head_at_look >= peer->ring_bytes / 2) {
        peer->head_at_look = peer->head;
        ring_if_parked(peer, &peer->in->producer_parked);
    }
    return length;
}

/* "Writing". Returns whether the peer was there to the end. */
static bool write_all(struct peer *peer, const unsigned char *source, uint64_t length) {
    while (length) {
        if (peer->socket_ended ||
            atomic_load_explicit(&peer->out->consumer_closed, memory_order_acquire))
            return false;
        uint64_t part = least(length, space(peer));
        if (!part) {
            sleep_for_space(peer);
            continue;
        }
        uint64_t index = peer->tail & (peer->ring_bytes - 1);
        uint64_t to_end = least(part, peer->ring_bytes - index);
        memcpy(peer->out_ring + index, source, to_end);
        memcpy(peer->out_ring, source + to_end, part - to_end);
        if (part <= INLINE_BYTES) {
            uint64_t words[INLINE_BYTES / 8] = {0};
            memcpy(words, source, part);
            atomic_store_explicit(&peer->out->inline_key, peer->tail << 6 | part, memory_order_relaxed);
            atomic_thread_fence(memory_order_release);
            for (int i = 0; i < INLINE_BYTES / 8; i++)
                atomic_store_explicit(&peer->out->inline_words[i], words[i], memory_order_relaxed);
        }
        peer->tail += part;
        atomic_store_explicit(&peer->out->tail, peer->tail, memory_order_release);
        ring_if_parked(peer, &peer->out->consumer_parked);
        source += part;
        length -= part;
    }
    return true;
}

/* "The end" */
static void close_both(struct peer *peer) {
    atomic_store_explicit(&peer->out->producer_closed, 1, memory_order_release);
    atomic_store_explicit(&peer->in->consumer_closed, 1, memory_order_release);
    shutdown(peer->socket, SHUT_RDWR);
}

int main(void) {
    const int socket = 0;
    struct peer peer = attach(receive_descriptor(socket), socket);
    unsigned char bytes[1000];
    uint64_t count;
    while ((count = read_some(&peer, bytes, sizeof bytes)) > 0)
        if (!write_all(&peer, bytes, count)) break;
    close_both(&peer);
    return 0;
}
