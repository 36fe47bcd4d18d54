/* What the tests share: checks that say where they fail, and a watchdog. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

#define CHECK_TEXT(actual, expected)                                                  \
    do {                                                                              \
        const char *text_ = (actual);                                                 \
        if (strcmp(text_, (expected)) != 0) {                                         \
            fprintf(stderr, "%s:%d: \"%s\" instead of \"%s\"\n", __FILE__, __LINE__,   \
                    text_, (expected));                                               \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

/* A test that hangs is ended by SIGALRM. The libraries' own sockets raise SIGPIPE. */
static inline void watch(void) {
    signal(SIGPIPE, SIG_IGN);
    alarm(60);
}

static inline int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* `length` bytes of every value. */
static inline char *pattern(size_t length) {
    char *bytes = malloc(length);
    size_t i;
    CHECK(bytes != NULL);
    for (i = 0; i < length; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    return bytes;
}
