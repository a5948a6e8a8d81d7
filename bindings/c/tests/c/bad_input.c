/* Everything that a caller can do wrong is refused by a status, and changes nothing. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static const char ADDRESS[] = "tcp://127.0.0.1:0";

static void *elsewhere(void *of)
{
    rw_engine engine = *(rw_engine *)of;
    rw_event event;
    uint32_t count;
    GIVES(RW_E_THREAD, rw_poll(engine, &event, 1, &count, 0));
    GIVES(RW_E_THREAD, rw_engine_destroy(engine));
    GIVES(RW_OK, rw_wake(engine));
    return NULL;
}

int main(void)
{
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_engine engine, other;
    rw_listener listener;
    rw_connection client, server, foreign;
    rw_channel channel;
    rw_event event, message;
    rw_buf room, written;
    rw_timer timer;
    rw_stats stats = RW_STATS_INIT;
    rw_method method;
    pthread_t thread;
    pid_t child;
    char bound[128];
    size_t len;
    uint32_t count, number;
    uint64_t value;
    int ended;

    /* Creation. */
    GIVES(RW_E_INVALID, rw_engine_create(&config, NULL));
    config.struct_size = 3;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.struct_size = sizeof config;
    config.driver = 77;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.driver = 0;
    GIVES(RW_OK, rw_engine_create(NULL, &other));
    GIVES(RW_OK, rw_engine_create(&config, &engine));

    /* NULL for every pointer. */
    GIVES(RW_E_INVALID, rw_listen(engine, NULL, 0, &listener));
    GIVES(RW_E_INVALID, rw_listen(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_serve(engine, NULL, 3, &listener));
    GIVES(RW_E_INVALID, rw_serve(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_connect(engine, NULL, 1, &client));
    GIVES(RW_E_INVALID, rw_connect(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_channel_open(engine, NULL, 1, &channel));
    GIVES(RW_E_INVALID, rw_channel_open(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_poll(engine, NULL, 1, &count, 0));
    GIVES(RW_E_INVALID, rw_poll(engine, &event, 1, NULL, 0));
    GIVES(RW_E_INVALID, rw_poll(engine, &event, 0, &count, 0));
    GIVES(RW_E_INVALID, rw_now_ns(engine, NULL));
    GIVES(RW_E_INVALID, rw_timer_set(engine, 1, 0, NULL));
    GIVES(RW_E_INVALID, rw_lease_new(engine, 8, NULL));
    GIVES(RW_E_INVALID, rw_stats_read(engine, NULL));
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, NULL, 1, &number));
    GIVES(RW_E_INVALID, rw_method_bind(engine, 1, NULL, 0, 0, 0, 0, &number));
    GIVES(RW_E_INVALID, rw_call_sync(engine, 1, 0, NULL, NULL, 5, &event));
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, NULL, NULL, 0, 0, NULL));
    GIVES(RW_E_INVALID, rw_request_info(engine, 1, NULL));
    GIVES(RW_E_INVALID, rw_reply(engine, 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_reply_error(engine, 1, 5, NULL, 0));
    GIVES(RW_E_INVALID, rw_reply_error(engine, 1, 0, "", 0));
    GIVES(RW_E_INVALID, rw_metadata_add(NULL, 0, &len, "a", 1, "b", 1));
    GIVES(RW_E_INVALID, rw_metadata_find("", 0, NULL, 0, NULL, NULL));
    GIVES(RW_E_INVALID, rw_method_id(NULL, 0, &value));
    GIVES(RW_E_INVALID, rw_driver_name(engine, NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_driver_name(engine, NULL, 0, NULL));
    GIVES(RW_E_INVALID, rw_last_error(NULL, 0, NULL));
    GIVES(RW_E_INVALID, rw_listen(engine, "\xff\xfe", 2, &listener));
    GIVES(RW_E_ADDRESS, rw_listen(engine, "nowhere", 7, &listener));
    memset(&method, 0, sizeof method);
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, &method, 1, &number));

    /* Ids that are made up. */
    GIVES(RW_E_STALE, rw_send(engine, 1, "x", 1));
    GIVES(RW_E_STALE, rw_claim(engine, 1, 1, &room));
    GIVES(RW_E_STALE, rw_close(engine, 1, 0));
    GIVES(RW_E_STALE, rw_release(engine, 1));
    GIVES(RW_E_STALE, rw_reply(engine, 1, "", 0));
    GIVES(RW_E_STALE, rw_call_cancel(engine, 1));
    GIVES(RW_E_STALE, rw_channel_close(engine, 1));
    GIVES(RW_E_STALE, rw_unlisten(engine, 1));
    GIVES(RW_E_STALE, rw_timer_cancel(engine, 1));
    GIVES(RW_E_STALE, rw_poll(0, &event, 1, &count, 0));
    GIVES(RW_E_STALE, rw_poll(~(uint64_t)0, &event, 1, &count, 0));
    GIVES(RW_E_STALE, rw_wake(12345));
    GIVES(RW_E_STATE, rw_commit(engine, 1));
    GIVES(RW_E_STATE, rw_abort(engine));

    /* Two ends of one connection. */
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(engine, bound, len, &client));
    GIVES(RW_E_NOT_OPEN, rw_send(engine, client, "x", 1));
    event = next(engine, RW_EV_OPENED);
    server = event.id == client ? 0 : event.id;
    event = next(engine, RW_EV_OPENED);
    server = event.id == client ? server : event.id;
    HOLDS(server != 0);

    /* An id of one engine means nothing to another one. */
    GIVES(RW_OK, rw_connect(other, bound, len, &foreign));
    GIVES(RW_E_STALE, rw_send(other, client, "x", 1));
    GIVES(RW_E_STALE, rw_send(engine, foreign, "x", 1));

    /* A claim excludes all else, but for leases. */
    GIVES(RW_E_INVALID, rw_claim(engine, client, 8, NULL));
    GIVES(RW_E_TOO_LONG, rw_claim(engine, client, (size_t)1 << 40, &room));
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    GIVES(RW_E_BUSY, rw_claim(engine, client, 8, &written));
    GIVES(RW_E_BUSY, rw_send(engine, client, "x", 1));
    GIVES(RW_E_BUSY, rw_poll(engine, &event, 1, &count, 0));
    memcpy(room.data, "claimed!", 8);
    GIVES(RW_OK, rw_commit(engine, 8));
    GIVES(RW_E_STATE, rw_commit(engine, 8));
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    GIVES(RW_OK, rw_abort(engine));
    message = next(engine, RW_EV_MESSAGE);
    HOLDS(message.id == server && message.len == 8 && memcmp(message.data, "claimed!", 8) == 0);

    /* Leases end once. What was sent or received is not written any more. */
    GIVES(RW_E_STATE, rw_lease_truncate(engine, message.lease, 1));
    GIVES(RW_E_STALE, rw_release(other, message.lease));
    GIVES(RW_OK, rw_release(engine, message.lease));
    GIVES(RW_E_STALE, rw_release(engine, message.lease));
    GIVES(RW_E_STALE, rw_send_lease(engine, client, message.lease));
    GIVES(RW_OK, rw_lease_new(engine, 5, &written));
    memcpy(written.data, "lease", 5);
    GIVES(RW_OK, rw_send_lease(engine, client, written.lease));
    GIVES(RW_E_STATE, rw_lease_truncate(engine, written.lease, 1));
    GIVES(RW_OK, rw_release(engine, written.lease));
    message = next(engine, RW_EV_MESSAGE);
    HOLDS(message.len == 5 && memcmp(message.data, "lease", 5) == 0);

    /* Timers and wakes. */
    GIVES(RW_OK, rw_timer_set(engine, 1000, 7, &timer));
    event = next(engine, RW_EV_TIMER);
    HOLDS(event.id == timer && event.user == 7);
    GIVES(RW_E_STALE, rw_timer_cancel(engine, timer));
    GIVES(0, pthread_create(&thread, NULL, elsewhere, &engine));
    next(engine, RW_EV_WOKEN);
    GIVES(0, pthread_join(thread, NULL));

    /* A child has no engine of its parent's. */
    child = fork();
    HOLDS(child >= 0);
    if (child == 0) {
        int refused = rw_poll(engine, &event, 1, &count, 0) == RW_E_FORK;
        refused &= rw_engine_destroy(engine) == RW_E_FORK;
        refused &= rw_wake(engine) == RW_E_FORK;
        _exit(refused ? 0 : 1);
    }
    HOLDS(waitpid(child, &ended, 0) == child);
    HOLDS(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);

    /* Destroyed with a lease and a claim outstanding. */
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.leases == 1);
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    GIVES(RW_OK, rw_engine_destroy(engine));
    GIVES(RW_E_STALE, rw_release(engine, message.lease));
    GIVES(RW_E_STALE, rw_commit(engine, 8));
    GIVES(RW_E_STALE, rw_engine_destroy(engine));
    GIVES(RW_OK, rw_engine_destroy(other));
    return 0;
}
