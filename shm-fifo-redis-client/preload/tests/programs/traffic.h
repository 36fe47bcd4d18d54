/* Connections in use, each in its own way to wait. */
#include "talk.h"

static void traffic(void) {
    int blocking = open_connection(), polled = open_connection(), watched = open_connection();
    int epfd = epoll_create(1);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(epfd, EPOLL_CTL_ADD, watched, &event) == 0);
    for (int i = 0; i < 40; i++) {
        send_ping(blocking);
        read_pong(blocking);
        send_ping(polled);
        wait_readable(polled);
        read_pong(polled);
        send_ping(watched);
        CHECK(epoll_wait(epfd, &event, 1, -1) == 1);
        read_pong(watched);
    }
    close(blocking);
    close(polled);
    close(watched);
    close(epfd);
}
