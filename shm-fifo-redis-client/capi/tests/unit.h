/* A part of a program that moves contexts, asks about them and frees them. */
#include "names.h"

typedef struct Unit {
    const char *name;
    int (*move)(redisContext *c, char *reason, size_t reason_bytes);
    int (*is_on_shm)(const redisContext *c);
    void (*free)(redisContext *c);
} Unit;
