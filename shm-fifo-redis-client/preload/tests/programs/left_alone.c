/* A program like any, which is compiled in other ways. */
#include "traffic.h"

#include <dirent.h>
#include <dlfcn.h>

static int entries(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}

/* Prints how everything is at the beginning of the program. */
static void found(void) {
    int first_errno = errno;
    const char *first_error = dlerror();
    printf("errno %d, dlerror %s\n", first_errno, first_error ? first_error : "none");
    int fd = open("/dev/null", O_RDONLY);
    close(fd);
    printf("lowest %d, descriptors %d, threads %d\n", fd, entries("/proc/self/fd"),
           entries("/proc/self/task"));
    sigset_t blocked;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0);
    for (int signal = 1; signal < 65; signal++) {
        struct sigaction action;
        if (sigaction(signal, NULL, &action) != 0) continue;
        printf("signal %d: %d %x\n", signal, action.sa_handler == SIG_DFL,
               sigismember(&blocked, signal));
    }
}

/* Copies its input to its output: a child like any. */
static void copy(void) {
    char line[256];
    while (fgets(line, sizeof line, stdin) != NULL) fputs(line, stdout);
}

static const struct test TESTS[] = {TEST(found), TEST(copy), TEST(traffic)};

int main(int argc, char **argv) { return run_test(argc, argv, TESTS, sizeof TESTS / sizeof *TESTS); }
