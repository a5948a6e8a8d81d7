/* An engine in an event loop of the program's own: one epoll that watches a timer of the program and the engine.
 *
 *   epoll_loop                tcp on a port that the kernel chooses
 *   epoll_loop ADDRESS        e.g. unix:///tmp/loop.sock or rudp://127.0.0.1:0
 *
 * A client says a number whenever the program's timer ticks, a server on the same engine says it back.
 *
 *   cc -std=c99 epoll_loop.c $(pkg-config --cflags --libs ringway) -o epoll_loop
 */
#define _POSIX_C_SOURCE 200809L
#include <ringway.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TICKS 20

static rw_engine engine;
static rw_connection client;
static uint32_t said, answered;

static int fail(const char *what, int32_t status)
{
    char text[256];
    size_t len = 0;
    rw_last_error(text, sizeof text, &len);
    if (len > sizeof text)
        len = sizeof text;
    fprintf(stderr, "%s: %s: %.*s\n", what, rw_status_name(status), (int)len, text);
    return 1;
}

/* Everything that the engine has; then it is armed, so that its descriptor tells of what comes next. */
static int32_t drained(int *opened)
{
    int32_t status;
    do {
        rw_event events[16];
        uint32_t count, at;
        while ((status = rw_poll(engine, events, 16, &count, 0)) == RW_OK) {
            for (at = 0; at < count; at++) {
                const rw_event *event = &events[at];
                if (event->kind == RW_EV_OPENED && event->id == client)
                    *opened = 1;
                else if (event->kind == RW_EV_MESSAGE && event->id == client)
                    answered++;
                else if (event->kind == RW_EV_MESSAGE)
                    status = rw_send_lease(engine, event->id, event->lease);
                else if (event->kind == RW_EV_CLOSED)
                    return RW_E_CLOSED;
                if (status != RW_OK)
                    return status;
                if (event->lease != 0)
                    rw_release(engine, event->lease);
            }
        }
        if (status != RW_AGAIN)
            return status;
    } while ((status = rw_event_arm(engine)) == RW_AGAIN);
    return status;
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "tcp://127.0.0.1:0";
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    struct epoll_event watch = {0, {0}};
    rw_listener listener;
    char bound[128];
    size_t len;
    int32_t status, engine_fd;
    int loop = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), opened = 0;

    if ((status = rw_engine_create(NULL, &engine)) != RW_OK)
        return fail("create", status);
    if ((status = rw_listen(engine, address, strlen(address), &listener)) != RW_OK)
        return fail("listen", status);
    if ((status = rw_listener_address(engine, listener, bound, sizeof bound, &len)) != RW_OK)
        return fail("address", status);
    if ((status = rw_connect(engine, bound, len, &client)) != RW_OK)
        return fail("connect", status);
    if ((status = rw_event_fd(engine, &engine_fd)) != RW_OK)
        return fail("event_fd", status);
    watch.events = EPOLLIN;
    watch.data.fd = engine_fd;
    if (loop < 0 || timer < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, engine_fd, &watch) != 0)
        return fail("epoll", RW_E_SYSTEM);
    watch.data.fd = timer;
    if (epoll_ctl(loop, EPOLL_CTL_ADD, timer, &watch) != 0 || timerfd_settime(timer, 0, &every, NULL) != 0)
        return fail("epoll", RW_E_SYSTEM);

    while (answered < TICKS) {
        struct epoll_event ready[2];
        int count, at;
        /* After whatever the program did with the engine, and before it sleeps. */
        if ((status = drained(&opened)) != RW_OK)
            return fail("drain", status);
        if (answered == TICKS)
            break;
        count = epoll_wait(loop, ready, 2, -1);
        for (at = 0; at < count; at++) {
            uint64_t ticks;
            if (ready[at].data.fd != timer || read(timer, &ticks, sizeof ticks) != (ssize_t)sizeof ticks)
                continue;
            if (opened && said < TICKS) {
                if ((status = rw_send(engine, client, &said, sizeof said)) != RW_OK)
                    return fail("send", status);
                said++;
            }
        }
    }
    printf("%u answers over %.*s\n", (unsigned)answered, (int)len, bound);
    close(timer);
    close(loop);
    return rw_engine_destroy(engine) == RW_OK ? 0 : 1;
}
