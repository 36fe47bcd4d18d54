/* All ways of the C library to do the same thing, in a program that is linked with it. */
#pragma once
#include "model.h"

#include <poll.h>
#include <sys/epoll.h>

/* Writing and reading. The first of them work with any file; the others take `flags`, and
 * are chosen if there are any. */
unsigned any_way_to_write(struct random *random, int flags);
unsigned any_way_to_read(struct random *random, int flags);
unsigned any_way_to_write_a_file(struct random *random);
unsigned any_way_to_read_a_file(struct random *random);
extern const char *const names_of_writes[], *const names_of_reads[];
long write_by(unsigned way, int fd, const void *data, size_t length, int flags, struct random *random);
long read_by(unsigned way, int fd, void *data, size_t length, int flags, struct random *random);

/* Closing, also by something else that takes the number, and is closed then. */
enum { CLOSED_UNSEEN = 0 };
unsigned any_way_to_close(struct random *random);
extern const char *const names_of_closes[];
void close_by(unsigned way, int fd, struct random *random);

/* Passing a descriptor on, and taking it: the new number. -1 if it could not be sent, by a
 * call that is `seen`. */
int pass_by_message(int fd, int seen);

/* Duplicating. */
int dup_by(int fd, struct random *random);

/* Waiting: the first of them poll, the others select, without telling a hang-up. */
unsigned any_way_to_poll(struct random *random, int may_select);
int is_select(unsigned way);
extern const char *const names_of_polls[];
int poll_by(unsigned way, struct pollfd *entries, unsigned count, int timeout_ms);
int epoll_wait_by(int fd, struct epoll_event *events, int capacity, int timeout_ms,
                  struct random *random);

/* The same by system calls of the program's own. */
int poll_unseen(struct pollfd *entries, unsigned count, int timeout_ms);
int epoll_wait_unseen(int fd, struct epoll_event *events, int capacity, int timeout_ms);
