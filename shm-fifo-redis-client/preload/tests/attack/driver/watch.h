/* epoll: what an instance must report, and may. */
#pragma once
#include "model.h"

struct object; /* in object.h */

enum edge { NO_NEWS, PERHAPS_NEWS, NEWS };

struct instance {
    int is_live;
    uint64_t made; /* the step */
    int is_born_unseen; /* made by a system call of the program's own */
    enum style style;   /* how it is waited for */
    int fds[MAX_NAMES], names;
    int may_be_rung; /* for something that was closed unseen: docs/clients.md */
};

struct watch {
    int is_live;
    struct instance *in;
    struct connection *connection;
    struct object *object;
    struct instance *instance;
    int fd; /* as it was when it was added; it may be closed since */
    unsigned events;
    uint64_t data;
    int is_armed, told_again;
    int is_nameless; /* the program has closed the number: docs/clients.md says what differs then */
    enum edge bytes, space, end;
};

extern struct instance instances[MAX_INSTANCES];
extern struct watch watches[MAX_WATCHES];

/* What happened to a connection is news for those that watch it. */
void bytes_have_come(struct connection *c);
void space_has_come(struct connection *c);
void end_has_come(struct connection *c);
/* All that is known to be there was read. */
void edges_are_over(struct connection *c);
/* A read found nothing, a write no space: what comes from now on is news. */
void was_empty(struct connection *c);
void was_full(struct connection *c);
/* The program used it: a report may follow from that. */
void was_used(struct connection *c);
void object_has_news(struct object *object);
/* Something may have come. */
void edges_are_uncertain(struct connection *c);

struct instance *any_instance(struct random *random);
struct ready readiness_of_instance(const struct instance *instance);
/* One without members, watched by none. */
struct instance *new_instance(struct random *random, enum style style);
void control_watches(struct instance *instance, struct random *random);
/* Adds it, or changes what is there, so that `events` are reported. */
struct watch *watch_for(struct instance *instance, struct connection *c, int fd, unsigned events,
                        struct random *random);

/* Looks what there is, as often as it takes to hear of all that must be reported. */
void look(struct instance *instance, struct random *random);
/* Sleeps until something of this watch is reported; nothing else is to be. */
void sleep_in(struct instance *instance, struct watch *watch, unsigned events, struct random *random);
/* Whether another instance watches it. */
int is_watched(const struct instance *instance);
/* Whether a member other than this one may be reported. */
int may_report_others(const struct instance *instance, const struct watch *watch);

/* Numbers that the program closes. */
void number_is_closed(const struct connection *c, int fd);
void forget_watches_of(const struct connection *c, int is_closed_unseen);
void forget_watches_of_object(const struct object *object);
void forget_instance(struct instance *instance);
