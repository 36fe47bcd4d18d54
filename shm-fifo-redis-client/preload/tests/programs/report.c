/* Ends, or lives, in the ways that matter to a report. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                          \
    do {                                                          \
        if (!(condition)) {                                       \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                              \
        }                                                         \
    } while (0)

static void own_handler(int number) { (void)number; }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    if (strcmp(how, "exit") == 0)
        return 0;
    if (strcmp(how, "at_once") == 0)
        _exit(0);
    if (strcmp(how, "signal") == 0) {
        CHECK(raise(SIGUSR2) == 0);
        return 0;
    }
    if (strcmp(how, "own_handler") == 0) {
        signal(SIGUSR2, own_handler);
        CHECK(raise(SIGUSR2) == 0);
        return 0;
    }
    if (strcmp(how, "fork") == 0) {
        int status = -1;
        if (fork() == 0)
            exit(0);
        CHECK(wait(&status) > 0 && status == 0);
        return 0;
    }
    if (strcmp(how, "vfork") == 0) {
        int status = -1;
        if (vfork() == 0)
            _exit(0);
        CHECK(wait(&status) > 0 && status == 0);
        return 0;
    }
    if (strcmp(how, "directory") == 0) {
        CHECK(chdir("/") == 0);
        return 0;
    }
    if (strcmp(how, "replaced") == 0) {
        /* stderr's number is that of a file that a report would spoil. */
        CHECK(close(2) == 0);
        CHECK(open(argv[2], O_WRONLY | O_CREAT, 0600) == 2);
        CHECK(write(2, "data", 4) == 4);
        return 0;
    }
    printf("it cannot end by %s\n", how);
    return 1;
}
