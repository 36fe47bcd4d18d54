/* Contexts that one part of a program moves, another asks about and a third frees:
 * units SOCKET PLUGIN. The parts are two files and a library that comes and goes. */
#include "unit.h"
#include "check.h"

#include <dlfcn.h>

extern const Unit first, second;

static redisContext *moved_by(const Unit *mover, const char *socket_path) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    redisContext *c = redisConnectUnix(socket_path);
    CHECK(c != NULL && c->err == 0);
    CHECK(mover->move(c, reason, sizeof(reason)) == REDIS_OK);
    CHECK_TEXT(reason, "");
    return c;
}

static void ping(redisContext *c) {
    redisReply *reply = redisCommand(c, "PING");
    CHECK(reply != NULL);
    CHECK_TEXT(reply->str, "PONG");
    freeReplyObject(reply);
}

static void all_agree(const char *socket_path, const Unit *units[], int count) {
    int mover, asker, freer;
    for (mover = 0; mover < count; mover++) {
        for (freer = 0; freer < count; freer++) {
            redisContext *c = moved_by(units[mover], socket_path);
            for (asker = 0; asker < count; asker++) {
                char reason[SHM_FIFO_REDIS_REASON_BYTES];
                CHECK(units[asker]->is_on_shm(c));
                /* Nothing to do, and no reason to stay. */
                CHECK(units[asker]->move(c, reason, sizeof(reason)) == REDIS_OK);
                CHECK_TEXT(reason, "");
                ping(c);
            }
            units[freer]->free(c);
        }
    }
}

int main(int count, char **arguments) {
    void *plugin;
    const Unit *units[3];
    redisContext *c;
    int before;
    CHECK(count == 3);
    watch();
    units[0] = &first;
    units[1] = &second;
    plugin = dlopen(arguments[2], RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(plugin != NULL);
    units[2] = dlsym(plugin, "plugin");
    CHECK(units[2] != NULL);
    before = open_descriptors();
    all_agree(arguments[1], units, 3);

    c = moved_by(units[2], arguments[1]);
    CHECK(dlclose(plugin) == 0 && dlopen(arguments[2], RTLD_NOW | RTLD_NOLOAD) == NULL);
    ping(c);
    CHECK(first.is_on_shm(c));
    second.free(c);
    CHECK(open_descriptors() == before);
    printf("%s, units: passed\n", LIBRARY);
    return 0;
}
