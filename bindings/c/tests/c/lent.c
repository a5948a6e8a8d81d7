/* Memory that is sent where it lies, and bytes that outlive their engine. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG 100000

static const char ADDRESS[] = "tcp://127.0.0.1:0";
static rw_engine engine;
static rw_connection client, server;
static rw_detached detached;
static unsigned char memory[LONG];

static void opened(void)
{
    rw_listener listener;
    rw_event event;
    char bound[128];
    size_t len;
    int both;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(engine, bound, len, &client));
    for (both = 0; both < 2; both++) {
        event = next(engine, RW_EV_OPENED);
        if (event.id != client)
            server = event.id;
    }
}

/* One event for each, after which the memory may change; what arrives is what was there before. */
static void by_reference(void)
{
    rw_stats before = RW_STATS_INIT, after = RW_STATS_INIT;
    unsigned sent = 0, came = 0, at;
    size_t sizes[3] = {LONG, 10, 4096};
    for (at = 0; at < LONG; at++)
        memory[at] = (unsigned char)(at * 7);
    GIVES(RW_OK, rw_stats_read(engine, &before));
    for (at = 0; at < 3; at++)
        GIVES(RW_OK, rw_send_ref(engine, client, memory, sizes[at], 100 + at));
    while (sent < 3 || came < 3) {
        rw_event event;
        uint32_t count;
        GIVES(RW_OK, rw_poll(engine, &event, 1, &count, -1));
        if (event.kind == RW_EV_SENT) {
            HOLDS(event.id == client && event.lease == 0 && event.user >= 100 && event.user < 103);
            sent++;
        } else if (event.kind == RW_EV_MESSAGE) {
            HOLDS(event.id == server && event.len == sizes[came]);
            for (at = 0; at < event.len; at++)
                HOLDS(((const unsigned char *)event.data)[at] == (unsigned char)(at * 7));
            GIVES(RW_OK, rw_release(engine, event.lease));
            came++;
        }
    }
    GIVES(RW_OK, rw_stats_read(engine, &after));
    /* Room for the pieces in which so long a message may arrive. */
    HOLDS(after.leases == 0 && after.copies - before.copies < 100);
    GIVES(RW_E_TOO_LONG, rw_send_ref(engine, client, memory, (size_t)1 << 31, 0));
}

static void *elsewhere(void *nothing)
{
    rw_buf buf;
    GIVES(RW_OK, rw_detached_data(detached, &buf));
    HOLDS(buf.len == 8 && memcmp(buf.data, "detached", 8) == 0 && buf.lease == detached);
    GIVES(RW_OK, rw_detached_release(detached));
    GIVES(RW_E_STALE, rw_detached_release(detached));
    return nothing;
}

static void outlives(void)
{
    rw_event event;
    rw_buf buf, again;
    pthread_t thread;
    pid_t child;
    int ended;
    GIVES(RW_OK, rw_send(engine, client, "detached", 8));
    event = next(engine, RW_EV_MESSAGE);
    GIVES(RW_OK, rw_detach(engine, event.lease, &buf));
    HOLDS(buf.data == event.data && buf.len == 8);
    detached = buf.lease;
    GIVES(RW_E_STALE, rw_release(engine, event.lease));
    GIVES(RW_E_STALE, rw_release(engine, detached));
    /* Back in an engine, beside the detached bytes. */
    GIVES(RW_OK, rw_attach(engine, detached, &again));
    HOLDS(again.data == buf.data && again.lease != detached);
    GIVES(RW_OK, rw_send_lease(engine, client, again.lease));
    GIVES(RW_OK, rw_release(engine, again.lease));
    event = next(engine, RW_EV_MESSAGE);
    HOLDS(event.len == 8 && memcmp(event.data, "detached", 8) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
        int refused = rw_detached_release(detached) == RW_E_FORK;
        kill(getpid(), refused ? SIGKILL : SIGTERM);
        _exit(1);
    }
    HOLDS(waitpid(child, &ended, 0) == child);
    HOLDS(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);
    /* What is still being sent ends with the engine, without an event. */
    GIVES(RW_OK, rw_send_ref(engine, client, memory, LONG, 1));
    GIVES(RW_OK, rw_engine_destroy(engine));
    memset(memory, 0, sizeof memory);
    GIVES(0, pthread_create(&thread, NULL, elsewhere, NULL));
    GIVES(0, pthread_join(thread, NULL));
}

int main(void)
{
    opened();
    by_reference();
    outlives();
    return 0;
}
