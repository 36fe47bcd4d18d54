/* A program that sends back whatever it is given on its socket, as docs/conformance.md asks, and
 * knows nothing of shared memory: the rest of the client that it is taken from. */
#define main moves_itself
#include "../../../../shm-fifo-redis-server/tests/c/documented_client.c"
#undef main

int main(void) {
    const char *place = getenv("SHM_FIFO_CONFORMANCE");
    int is_unix = place != NULL && *place == '/';
    CHECK(place != NULL);
    connect_to(is_unix, is_unix ? place : strrchr(place, ':') + 1);
    hello();
    send_back_all();
    end();
    return 0;
}
