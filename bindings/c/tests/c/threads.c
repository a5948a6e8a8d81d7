/* Engines on threads of the library: functions from any thread, events from one bounded queue. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENGINES 2
#define CALLERS 4
#define CALLS 300

static rw_threads threads;
static rw_engine engines[ENGINES];
static rw_channel channels[ENGINES];
static uint32_t say[ENGINES];
static uint32_t served_by[ENGINES];

static rw_thread_event taken(uint32_t kind)
{
    for (;;) {
        rw_thread_event event;
        uint32_t count;
        GIVES(RW_OK, rw_threads_next(threads, &event, 1, &count, -1));
        if (event.event.kind == kind)
            return event;
        if (event.event.lease != 0)
            GIVES(RW_OK, rw_release(event.engine, event.event.lease));
    }
}

/* Answers until a request says stop. */
static void *serves(void *nothing)
{
    for (;;) {
        rw_thread_event event = taken(RW_EV_REQUEST);
        int stop = event.event.len == 4 && memcmp(event.event.data, "stop", 4) == 0;
        __sync_fetch_and_add(&served_by[event.engine == engines[1]], 1);
        GIVES(RW_OK, rw_reply(event.engine, event.event.id, event.event.data, event.event.len));
        GIVES(RW_OK, rw_release(event.engine, event.event.lease));
        if (stop)
            return nothing;
    }
}

static void called(unsigned at, const void *data, size_t len)
{
    rw_event response;
    GIVES(RW_OK, rw_call_sync(engines[at], channels[at], say[at], NULL, data, len, &response));
    HOLDS(response.status == RW_CODE_OK && response.len == len && memcmp(response.data, data, len) == 0);
    GIVES(RW_OK, rw_release(engines[at], response.lease));
}

static void *calls(void *of)
{
    unsigned at = *(unsigned *)of % ENGINES, round;
    for (round = 0; round < CALLS; round++) {
        unsigned number[2];
        number[0] = *(unsigned *)of;
        number[1] = round;
        called(at, number, sizeof number);
    }
    return NULL;
}

static void started(void)
{
    static const uint32_t cores[1] = {0}, far[1] = {4096};
    rw_threads_config config = RW_THREADS_CONFIG_INIT;
    rw_engine_config engine = RW_ENGINE_CONFIG_INIT;
    rw_threads none;
    config.count = ENGINES;
    GIVES(RW_E_INVALID, rw_threads_start(&config, NULL, ENGINES, &threads));
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, ENGINES - 1, &threads));
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, ENGINES, NULL));
    config.struct_size = 3;
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, ENGINES, &threads));
    config.struct_size = sizeof config;
    config.count = 257;
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, 300, &threads));
    config.count = ENGINES;
    config.cores_count = 1;
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, ENGINES, &threads));
    config.cores = far;
    GIVES(RW_E_SYSTEM, rw_threads_start(&config, engines, ENGINES, &none));
    config.cores = cores;
    engine.idle = 77;
    config.engine = &engine;
    GIVES(RW_E_INVALID, rw_threads_start(&config, engines, ENGINES, &none));
    engine.idle = RW_IDLE_PARK;
    GIVES(RW_OK, rw_threads_start(&config, engines, ENGINES, &threads));
    HOLDS(engines[0] != engines[1]);
}

/* Functions mean what they mean elsewhere; some are the thread's own. */
static void means_the_same(void)
{
    rw_stats stats = RW_STATS_INIT;
    rw_thread_event event;
    rw_event plain;
    rw_timer timer;
    rw_buf buf;
    uint32_t count;
    int32_t fd;
    char text[128];
    size_t len;
    GIVES(RW_E_STATE, rw_poll(engines[0], &plain, 1, &count, 0));
    GIVES(RW_E_STATE, rw_event_fd(engines[0], &fd));
    GIVES(RW_E_STATE, rw_event_arm(engines[0]));
    GIVES(RW_E_STATE, rw_claim(engines[0], 1, 8, &buf));
    GIVES(RW_E_STATE, rw_commit(engines[0], 8));
    GIVES(RW_E_THREAD, rw_engine_destroy(engines[0]));
    GIVES(RW_E_STALE, rw_close(engines[0], 12345, 0));
    GIVES(RW_OK, rw_last_error(text, sizeof text, &len));
    HOLDS(len > 0);
    GIVES(RW_E_INVALID, rw_threads_next(threads, NULL, 1, &count, 0));
    GIVES(RW_E_INVALID, rw_threads_next(threads, &event, 0, &count, 0));
    GIVES(RW_E_INVALID, rw_threads_next(threads, &event, 1, NULL, 0));
    GIVES(RW_E_STALE, rw_threads_next(1, &event, 1, &count, 0));
    GIVES(RW_AGAIN, rw_threads_next(threads, &event, 1, &count, 0));
    GIVES(RW_AGAIN, rw_threads_next(threads, &event, 1, &count, 1000000));
    GIVES(RW_OK, rw_timer_set(engines[1], 1000, 5, &timer));
    event = taken(RW_EV_TIMER);
    HOLDS(event.engine == engines[1] && event.event.id == timer && event.event.user == 5);
    GIVES(RW_OK, rw_wake(engines[0]));
    HOLDS(taken(RW_EV_WOKEN).engine == engines[0]);
    GIVES(RW_OK, rw_lease_new(engines[0], 8, &buf));
    GIVES(RW_OK, rw_stats_read(engines[0], &stats));
    HOLDS(stats.leases == 1);
    GIVES(RW_OK, rw_release(engines[0], buf.lease));
}

static void many_call(void)
{
    static const char name[] = "demo.Echo/Say", address[] = "tcp://127.0.0.1:0", nowhere[] = "tcp://127.0.0.1:1";
    rw_method method = {"Say", 3, RW_KIND_UNARY, 0, RW_CODEC_RAW, 0, {0, 0, 0, 0, 0, 0}};
    pthread_t server[2], caller[CALLERS];
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    unsigned numbers[CALLERS], at;
    rw_listener listener;
    rw_channel lost;
    rw_event response;
    uint32_t number;
    char bound[128];
    size_t len;
    for (at = 0; at < ENGINES; at++)
        GIVES(RW_OK, rw_service_add(engines[at], "demo.Echo", 9, &method, 1, &number));
    GIVES(RW_E_REFUSED, rw_threads_serve(threads, "rudp://127.0.0.1:0", 18, &listener));
    GIVES(RW_E_INVALID, rw_threads_serve(threads, NULL, 1, &listener));
    GIVES(RW_E_INVALID, rw_threads_serve(threads, address, strlen(address), NULL));
    GIVES(RW_E_STALE, rw_threads_serve(1, address, strlen(address), &listener));
    GIVES(RW_OK, rw_threads_serve(threads, address, strlen(address), &listener));
    GIVES(RW_OK, rw_listener_address(engines[0], listener, bound, sizeof bound, &len));
    for (at = 0; at < ENGINES; at++) {
        GIVES(RW_OK, rw_channel_open(engines[at], bound, len, &channels[at]));
        GIVES(RW_OK, rw_channel_ready(engines[at], channels[at], -1));
        GIVES(RW_OK, rw_method_bind(engines[at], channels[at], name, strlen(name), RW_KIND_UNARY, 0, 0, &say[at]));
    }
    /* Nobody is there, and nobody answers. */
    GIVES(RW_OK, rw_channel_open(engines[0], nowhere, strlen(nowhere), &lost));
    GIVES(RW_E_UNAVAILABLE, rw_channel_ready(engines[0], lost, -1));
    options.timeout_ns = 5000000;
    /* It may be past before the call begins. */
    while (rw_call_sync(engines[0], channels[0], say[0], &options, "x", 1, &response) == RW_E_UNAVAILABLE)
        options.timeout_ns *= 2;
    HOLDS(response.status == RW_CODE_DEADLINE_EXCEEDED);
    GIVES(RW_OK, rw_release(engines[0], response.lease));
    taken(RW_EV_CANCELLED);

    for (at = 0; at < 2; at++)
        GIVES(0, pthread_create(&server[at], NULL, serves, NULL));
    for (at = 0; at < CALLERS; at++) {
        numbers[at] = at;
        GIVES(0, pthread_create(&caller[at], NULL, calls, &numbers[at]));
    }
    for (at = 0; at < CALLERS; at++)
        GIVES(0, pthread_join(caller[at], NULL));
    called(0, "stop", 4);
    called(1, "stop", 4);
    for (at = 0; at < 2; at++)
        GIVES(0, pthread_join(server[at], NULL));
    HOLDS(served_by[0] + served_by[1] == CALLERS * CALLS + 2);
    /* Both engines have connections. */
    HOLDS(served_by[0] > 0 && served_by[1] > 0);
}

/* A queue that nobody drains holds its engine back; then it goes on, and nothing is lost. */
static void bounded(void)
{
    rw_threads_config config = RW_THREADS_CONFIG_INIT;
    rw_threads few;
    rw_engine engine;
    rw_timer timer;
    rw_stats before = RW_STATS_INIT, after = RW_STATS_INIT;
    uint32_t at, count;
    config.events_max = 4;
    GIVES(RW_OK, rw_threads_start(&config, &engine, 1, &few));
    for (at = 0; at < 100; at++) {
        GIVES(RW_OK, rw_timer_set(engine, 0, at, &timer));
        /* Each comes in a turn of its own as long as there are turns. */
        if (at < 4) {
            rw_thread_event event;
            GIVES(RW_OK, rw_threads_next(few, &event, 1, &count, -1));
            HOLDS(event.event.user == at);
        }
    }
    /* It still does what it is told, without turning, once four wait. */
    do {
        GIVES(RW_OK, rw_stats_read(engine, &before));
        GIVES(RW_OK, rw_stats_read(engine, &after));
    } while (before.turns != after.turns);
    for (at = 4; at < 100; at++) {
        rw_thread_event event;
        GIVES(RW_OK, rw_threads_next(few, &event, 1, &count, -1));
        HOLDS(event.event.kind == RW_EV_TIMER && event.event.user == at);
    }
    GIVES(RW_OK, rw_threads_stop(few));
    GIVES(RW_E_STALE, rw_threads_stop(few));
    GIVES(RW_E_STALE, rw_wake(engine));
    GIVES(RW_E_STALE, rw_now_ns(engine, &after.turns));
}

static void *waits(void *nothing)
{
    rw_thread_event event;
    rw_event response;
    uint32_t count;
    /* Nobody serves any more. */
    GIVES(RW_E_STALE, rw_call_sync(engines[0], channels[0], say[0], NULL, "x", 1, &response));
    GIVES(RW_E_STALE, rw_threads_next(threads, &event, 1, &count, 0));
    return nothing;
}

int main(void)
{
    pthread_t waiter;
    pid_t child;
    int ended;
    started();
    means_the_same();
    many_call();
    bounded();
    child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
        int refused = rw_threads_stop(threads) == RW_E_FORK && rw_wake(engines[0]) == RW_E_FORK;
        kill(getpid(), refused ? SIGKILL : SIGTERM);
        _exit(1);
    }
    HOLDS(waitpid(child, &ended, 0) == child);
    HOLDS(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
    GIVES(0, pthread_create(&waiter, NULL, waits, NULL));
    /* Its request is there, so it waits. */
    taken(RW_EV_REQUEST);
    GIVES(RW_OK, rw_threads_stop(threads));
    GIVES(0, pthread_join(waiter, NULL));
    return 0;
}
