/* What the tests of asynchronous contexts share: scenes, each of one context in one loop,
 * on a server of the test's own that has the module. */
#include "names.h"
#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct Scene Scene;

/* Something else that the loop watches; -1 is nothing. */
typedef struct Other {
    int fd;
    void (*event)(redisAsyncContext *ac, int fd);
} Other;

/* Called before the context reads. */
static void (*before_read)(void);

static void handle_read(redisAsyncContext *ac) {
    if (before_read != NULL)
        before_read();
    redisAsyncHandleRead(ac);
}

#ifdef LIBEVENT
#include "loop_libevent.h"
#else
#include "loop_poll.h"
#endif

enum { UNTOLD, MOVED, STAYED, LOST };

static const char *socket_path;
static int port;
static pid_t server;

struct Scene {
    /* Called when the move has begun, or when it has ended, which it has to do like that. */
    void (*play)(redisAsyncContext *ac, Scene *scene);
    int plays_late;
    int outcome;
    Other other;
    int other_events;
    int told; /* how it ended */
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    int answered;
    int disconnected; /* 1 orderly, 2 by an error */
    char error[128];
    size_t length;
    char *value;
};

static Scene scene_of(void (*play)(redisAsyncContext *ac, Scene *scene), int outcome) {
    Scene scene;
    memset(&scene, 0, sizeof(scene));
    scene.play = play;
    scene.outcome = outcome;
    scene.other.fd = -1;
    return scene;
}

static void on_told(redisAsyncContext *ac, void *answer, void *privdata) {
    Scene *scene = ac->data;
    redisReply *reply = answer;
    CHECK(privdata == scene);
    CHECK(scene->told == UNTOLD && scene->answered == 0);
    if (reply == NULL) {
        scene->told = LOST;
    } else {
        scene->told = reply->type == REDIS_REPLY_STATUS ? MOVED : STAYED;
        snprintf(scene->reason, sizeof(scene->reason), "%s", reply->str);
        CHECK(redisIsOnShm(&ac->c) == (scene->told == MOVED));
        if (scene->plays_late)
            scene->play(ac, scene);
    }
}

static void begin_to_move(redisAsyncContext *ac, Scene *scene) {
    char reason[SHM_FIFO_REDIS_REASON_BYTES];
    int begun = redisShmInitiateAsync(ac, on_told, scene, reason, sizeof(reason));
    CHECK_TEXT(reason, "");
    CHECK(begun == REDIS_OK && scene->told == UNTOLD && !redisIsOnShm(&ac->c));
    if (!scene->plays_late)
        scene->play(ac, scene);
}

static void on_connected(CONNECTED redisAsyncContext *connected, int status) {
    redisAsyncContext *ac = (redisAsyncContext *)connected;
    CHECK(status == REDIS_OK);
    begin_to_move(ac, ac->data);
}

static void (*on_connect)(CONNECTED redisAsyncContext *connected, int status) = on_connected;

static void on_disconnected(const redisAsyncContext *ac, int status) {
    Scene *scene = ac->data;
    scene->disconnected = status == REDIS_OK ? 1 : 2;
    snprintf(scene->error, sizeof(scene->error), "%s", ac->errstr ? ac->errstr : "");
}

static void act_over(redisAsyncContext *ac, Scene *scene) {
    Loop loop;
    CHECK(ac != NULL && ac->err == 0);
    ac->data = scene;
    attach(&loop, ac, scene->other);
    /* The loop before the callbacks: setting them asks it for the first event. */
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnected);
    run(&loop);
    detach(&loop);
    CHECK(scene->disconnected != 0 && scene->told == scene->outcome);
}

static void act(Scene *scene) { act_over(redisAsyncConnectUnix(socket_path), scene); }

static void take_arguments(int count, char **arguments) {
    CHECK(count > 3);
    watch();
    socket_path = arguments[1];
    port = atoi(arguments[2]);
    server = (pid_t)atoi(arguments[3]);
}
