/* The descriptor for foreign loops tells of everything that comes after it was armed. A wake that is lost hangs this. */
#include "check.h"
#include <poll.h>
#include <pthread.h>

#define ROUNDS 1000

static uint32_t driver;

static int is_readable(int32_t fd, int timeout_ms)
{
    struct pollfd one = {0, POLLIN, 0};
    one.fd = fd;
    return poll(&one, 1, timeout_ms) == 1;
}

static rw_engine made(int32_t *fd)
{
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_engine engine;
    config.driver = driver;
    GIVES(RW_OK, rw_engine_create(&config, &engine));
    GIVES(RW_E_STATE, rw_event_arm(engine));
    GIVES(RW_E_INVALID, rw_event_fd(engine, NULL));
    GIVES(RW_OK, rw_event_fd(engine, fd));
    return engine;
}

/* The next event of a kind, sleeping on the descriptor only. */
static rw_event waited(rw_engine engine, int32_t fd, uint32_t kind)
{
    for (;;) {
        rw_event event;
        uint32_t count;
        int32_t status;
        while ((status = rw_poll(engine, &event, 1, &count, 0)) == RW_OK) {
            if (event.kind == kind)
                return event;
            if (event.lease != 0)
                GIVES(RW_OK, rw_release(engine, event.lease));
        }
        GIVES(RW_AGAIN, status);
        status = rw_event_arm(engine);
        HOLDS(status == RW_OK || status == RW_AGAIN);
        if (status == RW_OK)
            HOLDS(is_readable(fd, -1));
    }
}

static void *wakes(void *of)
{
    GIVES(RW_OK, rw_wake(*(rw_engine *)of));
    return NULL;
}

/* Until nothing is left to do. */
static void armed(rw_engine engine)
{
    rw_event event;
    uint32_t count;
    while (rw_event_arm(engine) == RW_AGAIN)
        while (rw_poll(engine, &event, 1, &count, 0) == RW_OK)
            if (event.lease != 0)
                GIVES(RW_OK, rw_release(engine, event.lease));
}

static void single(void)
{
    int32_t fd, again;
    rw_engine engine = made(&fd);
    rw_timer timer;
    pthread_t thread;
    rw_event event;
    uint32_t count;
    GIVES(RW_OK, rw_event_fd(engine, &again));
    HOLDS(fd == again);
    armed(engine);
    HOLDS(!is_readable(fd, 0));
    /* A timer. */
    GIVES(RW_OK, rw_timer_set(engine, 2000000, 3, &timer));
    HOLDS(waited(engine, fd, RW_EV_TIMER).user == 3);
    armed(engine);
    HOLDS(!is_readable(fd, 0));
    /* Another thread. */
    GIVES(0, pthread_create(&thread, NULL, wakes, &engine));
    HOLDS(is_readable(fd, -1));
    HOLDS(is_readable(fd, 0));
    GIVES(0, pthread_join(thread, NULL));
    GIVES(RW_OK, rw_poll(engine, &event, 1, &count, 0));
    HOLDS(event.kind == RW_EV_WOKEN);
    /* Events that wait are in the way. */
    GIVES(RW_OK, rw_timer_set(engine, 0, 1, &timer));
    GIVES(RW_OK, rw_timer_set(engine, 0, 2, &timer));
    GIVES(RW_OK, rw_poll(engine, &event, 1, &count, -1));
    GIVES(RW_AGAIN, rw_event_arm(engine));
    GIVES(RW_OK, rw_poll(engine, &event, 1, &count, 0));
    /* Polls that sleep by themselves go on working. */
    armed(engine);
    GIVES(RW_OK, rw_timer_set(engine, 1000, 4, &timer));
    HOLDS(next(engine, RW_EV_TIMER).user == 4);
    GIVES(RW_OK, rw_engine_destroy(engine));
    GIVES(RW_E_STALE, rw_event_arm(engine));
    GIVES(RW_E_STALE, rw_event_fd(engine, &fd));
}

struct end {
    char address[128];
    size_t len;
};

static void *echoes(void *of)
{
    struct end *end = of;
    int32_t fd;
    rw_engine engine = made(&fd);
    rw_connection connection;
    unsigned round;
    GIVES(RW_OK, rw_connect(engine, end->address, end->len, &connection));
    for (round = 0; round < ROUNDS; round++) {
        rw_event event = waited(engine, fd, RW_EV_MESSAGE);
        GIVES(RW_OK, rw_send_lease(engine, event.id, event.lease));
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    waited(engine, fd, RW_EV_CLOSED);
    GIVES(RW_OK, rw_engine_destroy(engine));
    return NULL;
}

/* Two threads that wait for each other, message by message, each in its own loop. */
static void ping_pong(const char *address)
{
    struct end end;
    int32_t fd;
    rw_engine engine = made(&fd);
    rw_listener listener;
    rw_connection connection;
    pthread_t thread;
    unsigned round;
    GIVES(RW_OK, rw_listen(engine, address, strlen(address), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, end.address, sizeof end.address, &end.len));
    GIVES(0, pthread_create(&thread, NULL, echoes, &end));
    connection = waited(engine, fd, RW_EV_OPENED).id;
    for (round = 0; round < ROUNDS; round++) {
        rw_event event;
        GIVES(RW_OK, rw_send(engine, connection, &round, sizeof round));
        event = waited(engine, fd, RW_EV_MESSAGE);
        HOLDS(event.len == sizeof round && memcmp(event.data, &round, sizeof round) == 0);
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    GIVES(RW_OK, rw_close(engine, connection, 0));
    waited(engine, fd, RW_EV_CLOSED);
    GIVES(0, pthread_join(thread, NULL));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

int main(int argc, char **argv)
{
    HOLDS(argc == 2);
    driver = strcmp(argv[1], "epoll") == 0 ? RW_DRIVER_EPOLL : RW_DRIVER_AUTO;
    single();
    ping_pong("tcp://127.0.0.1:0");
    ping_pong("rudp://127.0.0.1:0");
    return 0;
}
