/* What an asynchronous context does over shared memory: asynchronous SOCKET PORT PID. With
 * -DLIBEVENT in libevent's loop. */
#include "scene.h"

#define COMMANDS 20000

/* Many commands at once, of which neither the commands nor the replies fit. */
static void on_echo(redisAsyncContext *ac, void *answer, void *number) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    CHECK(reply != NULL);
    CHECK(atol(reply->str) == (long)(size_t)number);
    CHECK(scene->answered == (int)(size_t)number);
    if (++scene->answered == COMMANDS)
        redisAsyncDisconnect(ac);
}

static void ask_much(redisAsyncContext *ac, Scene *scene) {
    size_t number;
    (void)scene;
    for (number = 0; number < COMMANDS; number++)
        CHECK(redisAsyncCommand(ac, on_echo, (void *)number, "ECHO %lu", (unsigned long)number) ==
              REDIS_OK);
}

/* One command after the other: each end sleeps often. */
static void ask_next(redisAsyncContext *ac, Scene *scene);

static void on_next(redisAsyncContext *ac, void *answer, void *unused) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    (void)unused;
    CHECK(reply != NULL && atoi(reply->str) == scene->answered);
    if (++scene->answered == COMMANDS / 10)
        redisAsyncDisconnect(ac);
    else
        ask_next(ac, scene);
}

static void ask_next(redisAsyncContext *ac, Scene *scene) {
    CHECK(redisAsyncCommand(ac, on_next, NULL, "ECHO %d", scene->answered) == REDIS_OK);
}

/* Values larger than the ring. */
static void on_big(redisAsyncContext *ac, void *answer, void *is_get) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    CHECK(reply != NULL);
    if (is_get == NULL)
        return;
    CHECK((size_t)reply->len == scene->length);
    CHECK(memcmp(reply->str, scene->value, scene->length) == 0);
    scene->answered++;
    redisAsyncDisconnect(ac);
}

static void ask_big(redisAsyncContext *ac, Scene *scene) {
    int set = redisAsyncCommand(ac, on_big, NULL, "SET big %b", scene->value, scene->length);
    CHECK(set == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_big, scene, "GET big") == REDIS_OK);
}

/* A command that is never answered. */
static void on_failed(redisAsyncContext *ac, void *reply, void *unused) {
    Scene *scene = ac->data;
    (void)unused;
    CHECK(reply == NULL);
    CHECK(ac->c.err != 0);
    scene->answered++;
}

static void ask_in_vain(redisAsyncContext *ac, Scene *scene) {
    struct timeval timeout = {0, 30000};
    (void)scene;
    CHECK(redisAsyncSetTimeout(ac, timeout) == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_failed, NULL, "BLPOP nothing 0") == REDIS_OK);
}

/* The server ends the connection. */
static void on_id(redisAsyncContext *ac, void *answer, void *unused) {
    redisContext *other = redisConnectUnix(socket_path);
    redisReply *reply = answer;
    (void)unused;
    CHECK(redisAsyncCommand(ac, on_failed, NULL, "BLPOP nothing 0") == REDIS_OK);
    reply = redisCommand(other, "CLIENT KILL ID %lld", reply->integer);
    CHECK(reply != NULL && reply->integer == 1);
    freeReplyObject(reply);
    redisFree(other);
}

static void ask_to_be_killed(redisAsyncContext *ac, Scene *scene) {
    (void)scene;
    CHECK(redisAsyncCommand(ac, on_id, NULL, "CLIENT ID") == REDIS_OK);
}

/* Subscriptions. */
static void on_message(redisAsyncContext *ac, void *answer, void *unused) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    (void)unused;
    if (reply == NULL)
        return;
    if (strcmp(reply->element[0]->str, "subscribe") == 0) {
        redisContext *other = redisConnectUnix(socket_path);
        int i;
        for (i = 0; i < 100; i++)
            freeReplyObject(redisCommand(other, "PUBLISH news %d", i));
        redisFree(other);
    } else {
        CHECK(atoi(reply->element[2]->str) == scene->answered);
        if (++scene->answered == 100)
            redisAsyncDisconnect(ac);
    }
}

static void subscribe(redisAsyncContext *ac, Scene *scene) {
    (void)scene;
    CHECK(redisAsyncCommand(ac, on_message, NULL, "SUBSCRIBE news") == REDIS_OK);
}

/* Freed by its own callback. */
static void on_last(redisAsyncContext *ac, void *reply, void *unused) {
    Scene *scene = ac->data;
    (void)unused;
    if (reply != NULL)
        scene->answered++;
    if (scene->answered == 1 && reply != NULL)
        redisAsyncFree(ac);
}

static void ask_and_free(redisAsyncContext *ac, Scene *scene) {
    (void)scene;
    CHECK(redisAsyncCommand(ac, on_last, NULL, "PING") == REDIS_OK);
    CHECK(redisAsyncCommand(ac, on_last, NULL, "PING") == REDIS_OK);
}

int main(int count, char **arguments) {
    int i, before;
    take_arguments(count, arguments);
    {
        Scene scene = scene_of(ask_much, MOVED);
        act(&scene);
        CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
    }
    {
        Scene scene = scene_of(ask_much, MOVED);
        act_over(redisAsyncConnect("127.0.0.1", port), &scene);
        CHECK(scene.answered == COMMANDS && scene.disconnected == 1);
    }
    {
        Scene scene = scene_of(ask_next, MOVED);
        act(&scene);
        CHECK(scene.answered == COMMANDS / 10 && scene.disconnected == 1);
    }
    {
        Scene scene = scene_of(ask_big, MOVED);
        scene.length = 3 << 20;
        scene.value = pattern(scene.length);
        act(&scene);
        CHECK(scene.answered == 1 && scene.disconnected == 1);
        free(scene.value);
    }
    {
        Scene scene = scene_of(ask_in_vain, MOVED);
        scene.plays_late = 1; /* the move is timed too */
        act(&scene);
        CHECK(scene.answered == 1 && scene.disconnected == 2);
        CHECK_TEXT(scene.error, "Timeout");
    }
    {
        Scene scene = scene_of(ask_to_be_killed, MOVED);
        act(&scene);
        CHECK(scene.answered == 1 && scene.disconnected == 2);
        /* As on a socket: whether it is read or written first decides. */
        if (strcmp(scene.error, "Broken pipe") != 0)
            CHECK_TEXT(scene.error, "Server closed the connection");
    }
    {
        Scene scene = scene_of(subscribe, MOVED);
        act(&scene);
        CHECK(scene.answered == 100);
    }
    before = open_descriptors();
    for (i = 0; i < 300; i++) {
        Scene scene = scene_of(ask_and_free, MOVED);
        act(&scene);
        CHECK(scene.answered == 1);
    }
    CHECK(open_descriptors() == before);
    printf("%s, asynchronous, %s: passed\n", LIBRARY, LOOP);
    return 0;
}
