/* What a driver does: one of these at a time. */
#pragma once
#include "model.h"
#include "watch.h"

#include <signal.h>

/* life.c: connections come and go. */
void open_connection(struct random *random);
void close_connection(struct random *random);
void duplicate(struct random *random);
void end_by_server(struct random *random);
void shut_down(struct random *random);
/* Closes all its numbers. */
void close_all(struct connection *c, unsigned last_way, struct random *random);
/* The server has to notice that. */
void wait_for_end(struct connection *c);
int connect_to(int is_tcp, int flags);

/* talk.c */
void send_something(struct random *random);
void receive_something(struct random *random);
/* Writes up to `count` bytes of what is to be written; whether all of them went. */
int write_rest(struct connection *c, size_t count, struct random *random);
/* Reads all that comes. */
void read_all(struct connection *c, struct random *random);

/* polls.c */
void poll_some(struct random *random);

/* sleeps.c: waiting for what is not there yet. */
void sleep_for_something(struct random *random);
void sleep_in_vain(struct random *random);

/* fills.c */
void fill_and_drain(struct random *random);

/* messages.c: a connection is passed on. */
void pass_on(struct random *random);

/* numbers.c: the number of a closed connection is something else's. */
void use_number_again(struct random *random);

/* odd.c */
void change_mode(struct random *random);
void odd_call(struct random *random);

/* signals.c */
extern volatile sig_atomic_t broken_pipes, has_timer;
void prepare_signals(struct random *random);
/* How often SIGALRM comes; 0 is never. */
void set_timer(int us);
void interrupted_wait(struct random *random);
/* Called by whoever waits: once more, if a signal of ours was why it ended. */
int was_interrupted(long result);

/* threads.c, forks.c */
void several_threads(struct random *random);
void fork_something(struct random *random);
