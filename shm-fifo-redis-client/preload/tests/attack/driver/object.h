/* What is no connection: pipes, socket pairs and the like, beside the connections. The
 * harness uses their other end, past all hooks. */
#pragma once
#include "model.h"

enum object_kind { PIPE, PAIR, EVENT };

struct object {
    int is_live;
    uint64_t made; /* the step */
    enum object_kind kind;
    int fd, other;
    uint64_t unread;
};

extern struct object objects[MAX_OBJECTS];

struct object *any_object(struct random *random);
struct object *new_object(struct random *random);
struct ready readiness_of_object(const struct object *object);
/* Makes it readable, empties it by hooked calls, or closes it. */
void use_object(struct object *object, struct random *random);
