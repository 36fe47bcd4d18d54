#include "raw.h"

#include "control.h"
#include "steps.h"
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum child { CLOSES, ENDS, EXECS, TALKS, SPAWNED, BY_VFORK, BY_SYSTEM, CHILDREN };
static const char *const names_of_children[] = {"closes all", "ends", "execs", "talks", "is spawned",
                                                "is made by vfork", "is made by system"};

/* What the child closes is the parent's as well. */
static void close_inherited(struct random *random) {
    for (int i = 0; i < MAX_LIVE; i++) {
        struct connection *c = &connections[i];
        if (!c->is_live) continue;
        for (int name = 0; name < c->names; name++) close_by(1 + below(random, 5), c->fds[name], random);
    }
    for (int i = 0; i < MAX_INSTANCES; i++)
        for (int name = 0; instances[i].is_live && name < instances[i].names; name++)
            CALL(close(instances[i].fds[name]));
}

/* A connection of its own, which moves as any other. */
static void talk(struct random *random) {
    struct connection *c = &connections[0];
    *c = (struct connection){.is_live = 1, .is_tcp = endpoint_is_tcp, .is_endpoint = 1, .style = HOOKED,
                             .names = 1, .generator.id = journal->steps, .is_synced = 1};
    c->fds[0] = connect_to(c->is_tcp, 0);
    add_request(c, ID, 0, 0);
    write_rest(c, c->rest.length, random);
    sync_with_server(c);
    for (int i = below(random, 40); i > 0 && (!c->may_die || is_plain); i--) {
        add_request(c, ECHO, length_up_to(random, 200), 0);
        while (c->rest.length && c->server_end == NOT_ENDED) write_rest(c, c->rest.length, random);
        read_all(c, random);
    }
    if (c->may_die && !is_plain) journal->connections[c->generator.id].may_be_lost = 1;
}

static _Noreturn void live(enum child child, struct random *random) {
    /* Its timer is the parent's. */
    switch (child) {
    case CLOSES: close_inherited(random); break;
    case TALKS: talk(random); break;
    case EXECS: execl("/bin/true", "true", (char *)NULL); break;
    default: break;
    }
    if (once_in(random, 2)) exit(0);
    _exit(0);
}

static void wait_for_child(pid_t pid, enum child child) {
    int status = -1;
    long result;
    do result = raw(SYS_wait4, pid, &status, 0, NULL);
    while (result == -EINTR);
    CHECK(result == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child that %s: status %#x",
          names_of_children[child], status);
}

void fork_something(struct random *random) {
    enum child child = below(random, CHILDREN);
    char *arguments[] = {"true", NULL};
    pid_t pid = 0;
    say("a child %s", names_of_children[child]);
    fflush(NULL);
    if (child == BY_SYSTEM) {
        int status = system("exit 3");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3, "system: %#x (errno %d)", status, errno);
        return;
    }
    if (child == SPAWNED) {
        CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) == 0, "posix_spawn");
    } else if (child == BY_VFORK) {
        pid = vfork();
        if (pid == 0) {
            execv("/bin/true", arguments);
            _exit(1);
        }
    } else {
        pid = fork();
        if (pid == 0) live(child, random);
    }
    CHECK(pid > 0, "fork: errno %d", errno);
    wait_for_child(pid, child);
}
