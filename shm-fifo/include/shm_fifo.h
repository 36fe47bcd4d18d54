/*
 * shm-fifo: a stream of bytes each way between two processes, in shared memory.
 *
 * One process creates a channel and passes its file descriptor to the other, which
 * attaches. Whatever the peer does, and whenever it dies, this side gets bytes, an end or
 * an error: never a signal, and never a wait without end.
 *
 *     int sockets[2];
 *     socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
 *     shm_fifo_channel channel;
 *     int region = shm_fifo_channel_create(&channel, 65536, shm_fifo_socket(sockets[0]));
 *     ... the other process: shm_fifo_channel_attach(&channel, region, shm_fifo_socket(sockets[1]));
 *     shm_fifo_channel_write(&channel, "hello", 5, SHM_FIFO_FOREVER);
 *
 * Header only, for Linux, C11 and C++11 or later, GCC or Clang, on 64-bit machines; compile
 * C with -D_GNU_SOURCE. It knows no more than docs/layout.md, and its peer may be in Rust.
 *
 * Functions that return ssize_t or int return less than 0, a negative errno, where they
 * fail; strerror(-result) says it in words. -EPROTO is a peer that broke the protocol: the
 * channel has ended then, and stays so. One thread at a time uses a channel. A child of
 * fork() has the memory no more: it makes no use of its parent's channels.
 *
 * Names with `_detail_`, and the members of shm_fifo_channel, are not for users.
 *
 * Licence: MIT OR Apache-2.0.
 */
#ifndef SHM_FIFO_H
#define SHM_FIFO_H

#include "shm_fifo_ring.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if !defined(F_GET_SEALS) || !defined(MFD_ALLOW_SEALING)
#error "shm_fifo.h needs Linux and _GNU_SOURCE: compile with -D_GNU_SOURCE"
#endif

enum {
    /* For timeouts: as long as it takes. */
    SHM_FIFO_FOREVER = -1,
    /* For timeouts: not at all. */
    SHM_FIFO_NOW = 0,
    /* Interest in something to read, or the end of the stream. */
    SHM_FIFO_READABLE = 1,
    /* Interest in space to write, a quarter of the ring, or the peer's end. */
    SHM_FIFO_WRITABLE = 2
};

/* How a side wakes its peer and is woken by it: `shm_fifo_socket`, or one of your own. */
typedef struct shm_fifo_doorbell {
    /* Wakes the peer; never waits. One that rings already may stay as it is. */
    void (*ring)(void *context);
    /*
     * Waits for the peer to ring, at most `timeout_us` microseconds (SHM_FIFO_FOREVER,
     * SHM_FIFO_NOW), and takes all that has rung. Returns 1, 0 if the time passed, -EPIPE
     * if the peer has ended, or another negative errno, of which -EINTR alone does no harm.
     *
     * What the peer stored before it rang must be seen afterwards: system calls see to that.
     */
    int (*wait)(void *context, int64_t timeout_us);
    /* What both are called with. */
    void *context;
} shm_fifo_doorbell;

/* One end of a region. */
typedef struct shm_fifo_channel {
    shm_fifo_consumer in;
    shm_fifo_producer out;
    shm_fifo_doorbell doorbell;
    void *mapping;
    size_t mapped_bytes;
    int announced;   /* What this side has announced to sleep for. */
    uint32_t cpu;    /* As the peer knows it. */
    bool peer_ended; /* The doorbell said so. */
    bool is_broken;  /* The peer broke the protocol. */
} shm_fifo_channel;

/* ------------------------------------------------------------------ doorbells */

static inline int64_t shm_fifo_detail_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* When `timeout_us` has passed: SHM_FIFO_FOREVER and SHM_FIFO_NOW are themselves. */
static inline int64_t shm_fifo_detail_deadline(int64_t timeout_us) {
    if (timeout_us <= SHM_FIFO_NOW)
        return timeout_us;
    int64_t now = shm_fifo_detail_now_us();
    if (timeout_us > INT64_MAX - now)
        return SHM_FIFO_FOREVER;
    return now + timeout_us;
}

static inline int64_t shm_fifo_detail_left_us(int64_t deadline) {
    if (deadline <= SHM_FIFO_NOW)
        return deadline;
    int64_t left = deadline - shm_fifo_detail_now_us();
    return left > 0 ? left : 0;
}

static inline int shm_fifo_detail_socket_of(void *context) {
    return (int)(intptr_t)context;
}

static inline void shm_fifo_detail_ring_socket(void *context) {
    /* A full socket has doorbells that nobody has heard yet, and an end is heard by reading. */
    (void)send(shm_fifo_detail_socket_of(context), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static inline int shm_fifo_detail_wait_for_socket(void *context, int64_t timeout_us) {
    int socket = shm_fifo_detail_socket_of(context);
    struct pollfd polled = {socket, POLLIN, 0};
    struct timespec timeout = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000 * 1000)};
    int ready = ppoll(&polled, 1, timeout_us < 0 ? NULL : &timeout, NULL);
    if (ready <= 0)
        return ready < 0 ? -errno : 0;
    char bytes[256];
    ssize_t count = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (count <= 0)
        return -EPIPE;
    for (ssize_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return -EPROTO;
    return 1;
}

/*
 * Doorbells by `socket`, a connected stream socket that the other end of is the peer's, and
 * over which nothing else goes. Its end is the peer's: a peer that is killed is heard of. It
 * stays the caller's, to be closed after the channel.
 */
static inline shm_fifo_doorbell shm_fifo_socket(int socket) {
    shm_fifo_doorbell doorbell = {shm_fifo_detail_ring_socket, shm_fifo_detail_wait_for_socket,
                                  (void *)(intptr_t)socket};
    return doorbell;
}

/* ------------------------------------------------------------------ regions */

enum {
    SHM_FIFO_DETAIL_REGION_HEADER_BYTES = 4096,
    SHM_FIFO_DETAIL_LAYOUT_VERSION = 2,
    SHM_FIFO_DETAIL_TO_CREATOR = 1024,
    SHM_FIFO_DETAIL_TO_ATTACHER = 1536
};

/* The first words of a region: written once by its creator, read once by who attaches. */
typedef struct shm_fifo_detail_region_header {
    uint64_t magic;
    uint64_t layout_version;
    uint64_t ring_bytes;
    uint64_t token[2];
} shm_fifo_detail_region_header;

/* In memory the bytes "SHMFIFO" and a zero, where numbers begin with their lowest byte. */
static const uint64_t shm_fifo_detail_magic = UINT64_C(0x004F4649464D4853);

static inline uint64_t shm_fifo_detail_region_bytes(uint64_t ring_bytes) {
    return SHM_FIFO_DETAIL_REGION_HEADER_BYTES + 2 * ring_bytes;
}

/* Allocates the memory of a file, in parts: a signal makes the kernel take back the part that it
 * is at, and signals may come faster than a large one is done. */
static inline int shm_fifo_detail_allocate(int file, off_t length) {
    const off_t part = 1 << 20;
    for (off_t start = 0; start < length;) {
        off_t rest = length - start;
        if (fallocate(file, 0, start, rest < part ? rest : part) == 0)
            start += part;
        else if (errno != EINTR)
            return -1;
    }
    return 0;
}

/* A file of `length` bytes of memory that is allocated and can neither shrink nor grow. */
static inline int shm_fifo_detail_seal_file(int file, off_t length) {
    if (ftruncate(file, length) != 0 || shm_fifo_detail_allocate(file, length) != 0 ||
        fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return -errno;
    return 0;
}

static inline int shm_fifo_detail_create_file(uint64_t length) {
    const unsigned noexec_seal = 8; /* MFD_NOEXEC_SEAL, unknown before Linux 6.3 */
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    struct rlimit limit;
    /* A file above the limit would raise SIGXFSZ. */
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || length > limit.rlim_cur)
        return -EFBIG;
    int file = memfd_create("shm-fifo", flags | noexec_seal);
    if (file < 0 && errno == EINVAL)
        file = memfd_create("shm-fifo", flags);
    if (file < 0)
        return -errno;
    int result = shm_fifo_detail_seal_file(file, (off_t)length);
    if (result < 0)
        close(file);
    return result < 0 ? result : file;
}

/* Maps all of a region and makes `channel` the end of it that reads the FIFO at `incoming`. */
static inline int shm_fifo_detail_map(shm_fifo_channel *channel, int file, uint64_t ring_bytes,
                                      bool is_creator, shm_fifo_doorbell doorbell) {
    size_t length = shm_fifo_detail_region_bytes(ring_bytes);
    void *mapping = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapping == MAP_FAILED)
        return -errno;
    if (madvise(mapping, length, MADV_DONTFORK) != 0 || madvise(mapping, length, MADV_DONTDUMP) != 0) {
        int error = errno;
        munmap(mapping, length);
        return -error;
    }
    memset(channel, 0, sizeof *channel);
    channel->doorbell = doorbell;
    channel->mapping = mapping;
    channel->mapped_bytes = length;

    unsigned char *region = (unsigned char *)mapping;
    void *to_creator = region + SHM_FIFO_DETAIL_TO_CREATOR;
    void *to_attacher = region + SHM_FIFO_DETAIL_TO_ATTACHER;
    unsigned char *to_creator_ring = region + SHM_FIFO_DETAIL_REGION_HEADER_BYTES;
    unsigned char *to_attacher_ring = to_creator_ring + ring_bytes;
    shm_fifo_consumer_init(&channel->in,
                           (shm_fifo_header *)(is_creator ? to_creator : to_attacher),
                           is_creator ? to_creator_ring : to_attacher_ring, ring_bytes);
    shm_fifo_producer_init(&channel->out,
                           (shm_fifo_header *)(is_creator ? to_attacher : to_creator),
                           is_creator ? to_attacher_ring : to_creator_ring, ring_bytes);
    return 0;
}

/*
 * Creates a region with two rings of `ring_bytes` bytes, a power of two from 4096 to 2^30,
 * and makes `channel` its end. Allocates all of its memory: 4096 + 2 * ring_bytes bytes.
 *
 * Returns a file descriptor (close-on-exec) that the peer attaches to, by inheritance or by
 * `shm_fifo_send_fd`; it is the caller's, to be closed as soon as the peer has it. Or
 * -EINVAL if there is no such ring, -EFBIG if the process may not make such files
 * (RLIMIT_FSIZE), or what the kernel says, and `channel` is none.
 */
static inline int shm_fifo_channel_create(shm_fifo_channel *channel, size_t ring_bytes,
                                          shm_fifo_doorbell doorbell) {
    uint64_t token[2];
    if (!shm_fifo_detail_is_ring_size(ring_bytes))
        return -EINVAL;
    if (getrandom(token, sizeof token, 0) != (ssize_t)sizeof token)
        return -errno;
    int file = shm_fifo_detail_create_file(shm_fifo_detail_region_bytes(ring_bytes));
    if (file < 0)
        return file;
    int result = shm_fifo_detail_map(channel, file, ring_bytes, true, doorbell);
    if (result < 0) {
        close(file);
        return result;
    }
    shm_fifo_detail_region_header *header = (shm_fifo_detail_region_header *)channel->mapping;
    __atomic_store_n(&header->token[0], token[0], __ATOMIC_RELAXED);
    __atomic_store_n(&header->token[1], token[1], __ATOMIC_RELAXED);
    __atomic_store_n(&header->ring_bytes, ring_bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&header->layout_version, SHM_FIFO_DETAIL_LAYOUT_VERSION, __ATOMIC_RELAXED);
    __atomic_store_n(&header->magic, shm_fifo_detail_magic, __ATOMIC_RELAXED);
    return file;
}

/* The size of the rings of the region in `file`, as far as its first page says; or an error. */
static inline int64_t shm_fifo_detail_ring_bytes(int file, uint64_t file_bytes) {
    void *page = mmap(NULL, SHM_FIFO_DETAIL_REGION_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                      file, 0);
    if (page == MAP_FAILED)
        return -errno;
    const shm_fifo_detail_region_header *header = (const shm_fifo_detail_region_header *)page;
    uint64_t magic = __atomic_load_n(&header->magic, __ATOMIC_RELAXED);
    uint64_t version = __atomic_load_n(&header->layout_version, __ATOMIC_RELAXED);
    uint64_t ring_bytes = __atomic_load_n(&header->ring_bytes, __ATOMIC_RELAXED);
    munmap(page, SHM_FIFO_DETAIL_REGION_HEADER_BYTES);
    if (magic != shm_fifo_detail_magic)
        return -EINVAL;
    if (version != SHM_FIFO_DETAIL_LAYOUT_VERSION)
        return -EPROTONOSUPPORT;
    if (!shm_fifo_detail_is_ring_size(ring_bytes) ||
        shm_fifo_detail_region_bytes(ring_bytes) != file_bytes)
        return -EPROTO;
    return (int64_t)ring_bytes;
}

/*
 * Attaches to the region behind `file`, which another has created, and makes `channel` its
 * end. Two processes share a region, no more. `file` stays the caller's, and may be closed.
 *
 * Returns 0. Or -EPERM if it is not sealed: its owner could take the memory away; -EINVAL
 * if it is no region; -EPROTONOSUPPORT if it has another version's layout; -EPROTO if it is
 * not as long as its rings ask for; or what the kernel says; and `channel` is none.
 */
static inline int shm_fifo_channel_attach(shm_fifo_channel *channel, int file,
                                          shm_fifo_doorbell doorbell) {
    int seals = fcntl(file, F_GET_SEALS);
    /* EINVAL: a file that can have no seals. */
    if (seals < 0 && errno != EINVAL)
        return -errno;
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
        return -EPERM;
    struct stat status;
    if (fstat(file, &status) != 0)
        return -errno;
    uint64_t file_bytes = (uint64_t)status.st_size;
    /* Before anything is mapped: no file of huge pages has such a size. */
    uint64_t rings_bytes = file_bytes - SHM_FIFO_DETAIL_REGION_HEADER_BYTES;
    if (rings_bytes % 2 != 0 || !shm_fifo_detail_is_ring_size(rings_bytes / 2))
        return -EINVAL;
    int64_t ring_bytes = shm_fifo_detail_ring_bytes(file, file_bytes);
    if (ring_bytes < 0)
        return (int)ring_bytes;
    return shm_fifo_detail_map(channel, file, (uint64_t)ring_bytes, false, doorbell);
}

/* ------------------------------------------------------------------ waiting */

static inline void shm_fifo_detail_ring(const shm_fifo_channel *channel) {
    channel->doorbell.ring(channel->doorbell.context);
}

/* Tells the peer that nothing more comes, and that nothing more is read. */
static inline void shm_fifo_detail_end(shm_fifo_channel *channel) {
    shm_fifo_producer_close(&channel->out);
    shm_fifo_consumer_close(&channel->in);
    bool reads = shm_fifo_producer_needs_notify(&channel->out);
    bool writes = shm_fifo_consumer_needs_notify_now(&channel->in);
    if (reads || writes)
        shm_fifo_detail_ring(channel);
}

/* What is done about `error`: -EPROTO ends the channel. */
static inline int shm_fifo_detail_fail(shm_fifo_channel *channel, ssize_t error) {
    if (error == -EPROTO && !channel->is_broken) {
        channel->is_broken = true;
        shm_fifo_detail_end(channel);
    }
    return (int)error;
}

/* Takes back what `shm_fifo_channel_park` announced. */
static inline void shm_fifo_channel_unpark(shm_fifo_channel *channel) {
    if (channel->announced & SHM_FIFO_READABLE)
        shm_fifo_consumer_unpark(&channel->in);
    if (channel->announced & SHM_FIFO_WRITABLE)
        shm_fifo_producer_unpark(&channel->out);
    channel->announced = 0;
}

/* Lets the peer know on which CPU this side waits: another's is worth spinning for. */
static inline void shm_fifo_detail_publish_cpu(shm_fifo_channel *channel) {
    uint32_t cpu = (uint32_t)(sched_getcpu() + 1);
    if (cpu == channel->cpu)
        return;
    channel->cpu = cpu;
    __atomic_store_n(&channel->in.header->consumer_cpu, cpu, __ATOMIC_RELAXED);
    __atomic_store_n(&channel->out.header->producer_cpu, cpu, __ATOMIC_RELAXED);
}

/*
 * For event loops: announces that this side sleeps until its doorbell rings (the socket is
 * readable) for what `interest` names: SHM_FIFO_READABLE, SHM_FIFO_WRITABLE, or both.
 *
 * Returns whether it may: false, with nothing announced, if some of it is there.
 */
static inline bool shm_fifo_channel_park(shm_fifo_channel *channel, int interest) {
    shm_fifo_detail_publish_cpu(channel);
    if (shm_fifo_consumer_needs_notify_now(&channel->in))
        shm_fifo_detail_ring(channel);
    channel->announced |= interest;
    bool may_sleep = !channel->peer_ended && !channel->is_broken;
    if (interest & SHM_FIFO_READABLE)
        may_sleep = may_sleep && shm_fifo_consumer_park(&channel->in);
    if (interest & SHM_FIFO_WRITABLE)
        may_sleep = may_sleep && shm_fifo_producer_park(&channel->out);
    if (!may_sleep)
        shm_fifo_channel_unpark(channel);
    return may_sleep;
}

/* Waits for the doorbell, announced or not. */
static inline int shm_fifo_detail_hear(shm_fifo_channel *channel, int64_t timeout_us) {
    int heard = channel->doorbell.wait(channel->doorbell.context, timeout_us);
    shm_fifo_channel_unpark(channel);
    if (heard == -EPIPE) {
        channel->peer_ended = true;
        return 1;
    }
    return heard < 0 ? shm_fifo_detail_fail(channel, heard) : heard;
}

/*
 * For event loops, to be called first when the doorbell rings (the socket is readable): takes
 * what has rung, and announces that this side is awake. Then read or write until -EAGAIN,
 * then `shm_fifo_channel_park`.
 *
 * Returns 1 if it rang, 0 if not, -EPROTO if the peer sent what is no doorbell, or what the
 * doorbell says.
 */
static inline int shm_fifo_channel_listen(shm_fifo_channel *channel) {
    return shm_fifo_detail_hear(channel, SHM_FIFO_NOW);
}

/*
 * Waits until what `interest` names may be there, at most `timeout_us` microseconds.
 *
 * Returns 1, 0 if the time has passed, -EINTR if a signal came, -EPROTO if the peer sent what
 * is no doorbell, or what the doorbell says. To spin before, read or write with SHM_FIFO_NOW
 * in a loop.
 */
static inline int shm_fifo_channel_wait(shm_fifo_channel *channel, int interest, int64_t timeout_us) {
    if (!shm_fifo_channel_park(channel, interest))
        return 1;
    return shm_fifo_detail_hear(channel, timeout_us);
}

/* As `shm_fifo_channel_wait`, until `deadline`. Returns less than 0 if it has passed, too. */
static inline int shm_fifo_detail_wait_until(shm_fifo_channel *channel, int interest,
                                             int64_t deadline) {
    int64_t left_us = shm_fifo_detail_left_us(deadline);
    /* Looked at in any case: a peer that rings for nothing does not stop the time. */
    int waited = left_us != 0 ? shm_fifo_channel_wait(channel, interest, left_us) : 0;
    return waited != 0 ? waited : -EAGAIN;
}

/* ------------------------------------------------------------------ bytes */

static inline ssize_t shm_fifo_detail_try_read(shm_fifo_channel *channel, void *bytes, size_t room) {
    if (channel->is_broken)
        return -EPROTO;
    ssize_t count = shm_fifo_consumer_read(&channel->in, bytes, room);
    if (count == 0 && room > 0) {
        if (!channel->peer_ended && !shm_fifo_consumer_peer_closed(&channel->in))
            return -EAGAIN;
        /* What was published before the end is seen by now. */
        count = shm_fifo_consumer_read(&channel->in, bytes, room);
    }
    if (count < 0)
        return shm_fifo_detail_fail(channel, count);
    if (shm_fifo_consumer_needs_notify(&channel->in))
        shm_fifo_detail_ring(channel);
    return count;
}

static inline ssize_t shm_fifo_detail_try_write(shm_fifo_channel *channel, const void *bytes,
                                                size_t length) {
    if (channel->is_broken)
        return -EPROTO;
    /* Its writing first: that word is in a line that seldom comes from its CPU. */
    if (channel->peer_ended || (shm_fifo_consumer_peer_closed(&channel->in) &&
                                shm_fifo_producer_peer_closed(&channel->out)))
        return -EPIPE;
    ssize_t count = shm_fifo_producer_write(&channel->out, bytes, length);
    if (count < 0)
        return shm_fifo_detail_fail(channel, count);
    if (count == 0 && length > 0)
        return shm_fifo_producer_peer_closed(&channel->out) ? -EPIPE : -EAGAIN;
    if (shm_fifo_producer_needs_notify(&channel->out))
        shm_fifo_detail_ring(channel);
    return count;
}

/*
 * Reads at most `room` bytes, waiting for the first at most `timeout_us` microseconds
 * (SHM_FIFO_FOREVER, SHM_FIFO_NOW).
 *
 * Returns how many; 0 at the end of the stream; -EAGAIN if nothing came in time; -EINTR if
 * a signal came first; -EPROTO if the peer broke the protocol; or what the doorbell says.
 */
static inline ssize_t shm_fifo_channel_read(shm_fifo_channel *channel, void *bytes, size_t room,
                                            int64_t timeout_us) {
    int64_t deadline = shm_fifo_detail_deadline(timeout_us);
    ssize_t count;
    while ((count = shm_fifo_detail_try_read(channel, bytes, room)) == -EAGAIN) {
        int waited = shm_fifo_detail_wait_until(channel, SHM_FIFO_READABLE, deadline);
        if (waited < 0)
            return waited;
    }
    return count;
}

/*
 * Writes as many of `length` bytes as there is space for, waiting for some at most
 * `timeout_us` microseconds (SHM_FIFO_FOREVER, SHM_FIFO_NOW).
 *
 * Returns how many; -EAGAIN if there was no space in time; -EPIPE if the peer has ended;
 * -EINTR if a signal came first; -EPROTO if the peer broke the protocol; or what the doorbell
 * says. Two sides that both write all they have before they read wait for each other for
 * ever, as over two pipes.
 */
static inline ssize_t shm_fifo_channel_write(shm_fifo_channel *channel, const void *bytes,
                                             size_t length, int64_t timeout_us) {
    int64_t deadline = shm_fifo_detail_deadline(timeout_us);
    ssize_t count;
    while ((count = shm_fifo_detail_try_write(channel, bytes, length)) == -EAGAIN) {
        int waited = shm_fifo_detail_wait_until(channel, SHM_FIFO_WRITABLE, deadline);
        if (waited < 0)
            return waited;
    }
    return count;
}

/*
 * Ends both directions and unmaps the memory. The peer reads what was written before. The
 * channel is none afterwards; what its doorbell is made of may be closed.
 */
static inline void shm_fifo_channel_close(shm_fifo_channel *channel) {
    if (!channel->is_broken)
        shm_fifo_detail_end(channel);
    munmap(channel->mapping, channel->mapped_bytes);
    memset(channel, 0, sizeof *channel);
}

/* ------------------------------------------------------------------ descriptors */

/* Room for one descriptor beside a message. */
typedef union shm_fifo_detail_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} shm_fifo_detail_control;

/*
 * Passes the descriptor `fd` to the process behind `socket`, a connected unix socket, with
 * the eight bytes by which a peer in Rust (`shm_fifo::connect`, `Channel::open`) knows it for a
 * region. Returns 0, or what the kernel says.
 */
static inline int shm_fifo_send_fd(int socket, int fd) {
    char offer[] = {'S', 'H', 'M', 'F', 'I', 'F', 'O', 1};
    struct iovec span = {offer, sizeof offer};
    shm_fifo_detail_control control;
    struct msghdr message;
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = &span;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/*
 * Receives the next message on `socket`, of at most 64 bytes, which do not matter, and the
 * descriptor that comes with it, waiting for it where the socket does. Returns the
 * descriptor (close-on-exec); -EPIPE at the end of the socket; -EPROTO if there came none or
 * several; or what the kernel says.
 */
static inline int shm_fifo_receive_fd(int socket) {
    char bytes[64];
    struct iovec span = {bytes, sizeof bytes};
    shm_fifo_detail_control control;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &span;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    /* For one and no more: the kernel keeps the others. */
    message.msg_controllen = CMSG_LEN(sizeof(int));
    ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0)
        return -errno;
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (first == NULL || first->cmsg_level != SOL_SOCKET || first->cmsg_type != SCM_RIGHTS ||
        first->cmsg_len != CMSG_LEN(sizeof(int)))
        return count == 0 ? -EPIPE : -EPROTO;
    int fd;
    memcpy(&fd, CMSG_DATA(first), sizeof fd);
    /* A packet may have no byte and a descriptor all the same. */
    if (count > 0 && (message.msg_flags & MSG_CTRUNC) == 0)
        return fd;
    close(fd);
    return -EPROTO;
}

#endif /* SHM_FIFO_H */
