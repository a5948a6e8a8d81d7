/* Everything that a caller can do wrong is refused by a status, and changes nothing. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char ADDRESS[] = "tcp://127.0.0.1:0";

static void *elsewhere(void *of)
{
    rw_engine engine = *(rw_engine *)of;
    rw_event event;
    uint32_t count;
    GIVES(RW_E_THREAD, rw_poll(engine, &event, 1, &count, 0));
    GIVES(RW_E_THREAD, rw_send_ref(engine, 1, "x", 1, 0));
    GIVES(RW_E_THREAD, rw_engine_destroy(engine));
    GIVES(RW_OK, rw_wake(engine));
    return NULL;
}

/* NULL for every pointer, one at a time. */
static void no_pointers(rw_engine engine)
{
    rw_listener listener;
    rw_connection connection;
    rw_channel channel;
    rw_event event;
    rw_buf buf;
    rw_call_id call;
    rw_method method;
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    const void *value;
    char text[8];
    size_t len;
    uint32_t count, number;
    uint64_t id;

    GIVES(RW_E_INVALID, rw_last_error(NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_last_error(text, 4, NULL));
    GIVES(RW_E_INVALID, rw_listen(engine, NULL, 0, &listener));
    GIVES(RW_E_INVALID, rw_listen(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_serve(engine, NULL, 3, &listener));
    GIVES(RW_E_INVALID, rw_serve(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_E_INVALID, rw_listener_address(engine, listener, NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_listener_address(engine, listener, text, 4, NULL));
    GIVES(RW_OK, rw_unlisten(engine, listener));
    GIVES(RW_E_INVALID, rw_connect(engine, NULL, 1, &connection));
    GIVES(RW_E_INVALID, rw_connect(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_queued_bytes(engine, 1, NULL));
    GIVES(RW_E_INVALID, rw_message_bytes_max(engine, 1, NULL));
    GIVES(RW_E_INVALID, rw_poll(engine, NULL, 1, &count, 0));
    GIVES(RW_E_INVALID, rw_poll(engine, &event, 1, NULL, 0));
    GIVES(RW_E_INVALID, rw_poll(engine, &event, 0, &count, 0));
    GIVES(RW_E_INVALID, rw_now_ns(engine, NULL));
    GIVES(RW_E_INVALID, rw_timer_set(engine, 1, 0, NULL));
    GIVES(RW_E_INVALID, rw_claim(engine, 1, 1, NULL));
    GIVES(RW_E_INVALID, rw_send(engine, 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_send_ref(engine, 1, NULL, 1, 0));
    GIVES(RW_E_INVALID, rw_detached_data(1, NULL));
    GIVES(RW_E_INVALID, rw_attach(engine, 1, NULL));
    GIVES(RW_E_INVALID, rw_reply_send(engine, 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_reply_metadata(engine, 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_reply_metadata(engine, 1, "no block", 8));
    GIVES(RW_E_INVALID, rw_lease_new(engine, 8, NULL));
    GIVES(RW_OK, rw_lease_new(engine, 8, &buf));
    GIVES(RW_E_INVALID, rw_lease_data(engine, buf.lease, NULL));
    GIVES(RW_E_INVALID, rw_detach(engine, buf.lease, NULL));
    GIVES(RW_E_INVALID, rw_answer_text(engine, buf.lease, NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_answer_text(engine, buf.lease, text, 4, NULL));
    GIVES(RW_E_INVALID, rw_answer_metadata(engine, buf.lease, NULL, &len));
    GIVES(RW_E_INVALID, rw_answer_metadata(engine, buf.lease, &value, NULL));
    GIVES(RW_OK, rw_release(engine, buf.lease));
    GIVES(RW_E_INVALID, rw_channel_open(engine, NULL, 1, &channel));
    GIVES(RW_E_INVALID, rw_channel_open(engine, ADDRESS, strlen(ADDRESS), NULL));
    GIVES(RW_E_INVALID, rw_method_bind(engine, 1, NULL, 0, 0, 0, 0, &number));
    GIVES(RW_E_INVALID, rw_method_bind(engine, 1, "a.B/C", 5, 0, 0, 0, NULL));
    GIVES(RW_E_INVALID, rw_method_bind(engine, 1, "a.B/C", 5, 4, 0, 0, &number));
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, NULL, NULL, 0, 0, NULL));
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, NULL, NULL, 1, 0, &call));
    GIVES(RW_E_INVALID, rw_call_one_way(engine, 1, 0, NULL, NULL, 1));
    GIVES(RW_E_INVALID, rw_call_sync(engine, 1, 0, NULL, NULL, 5, &event));
    GIVES(RW_E_INVALID, rw_call_sync(engine, 1, 0, NULL, NULL, 0, NULL));
    GIVES(RW_E_INVALID, rw_stream_send(engine, 1, NULL, 1, 0));
    GIVES(RW_E_INVALID, rw_service_add(engine, NULL, 0, &method, 1, &number));
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, NULL, 1, &number));
    memset(&method, 0, sizeof method);
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, &method, 1, &number));
    method.name = "C";
    method.name_len = 1;
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, &method, 1, NULL));
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, &method, 1025, &number));
    GIVES(RW_E_INVALID, rw_request_info(engine, 1, NULL));
    GIVES(RW_E_INVALID, rw_reply(engine, 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_reply_error(engine, 1, RW_CODE_NOT_FOUND, NULL, 0));
    GIVES(RW_E_INVALID, rw_reply_error(engine, 1, RW_CODE_OK, "", 0));
    GIVES(RW_E_INVALID, rw_reply_error(engine, 1, 17, "", 0));
    GIVES(RW_E_INVALID, rw_metadata_add(NULL, 0, &len, "a", 1, "b", 1));
    GIVES(RW_E_INVALID, rw_metadata_add(text, sizeof text, NULL, "a", 1, "b", 1));
    len = 0;
    GIVES(RW_E_INVALID, rw_metadata_add(text, sizeof text, &len, NULL, 1, "b", 1));
    GIVES(RW_E_INVALID, rw_metadata_add(text, sizeof text, &len, "a", 1, NULL, 1));
    GIVES(RW_E_INVALID, rw_metadata_find(NULL, 16, "a", 1, &value, &len));
    GIVES(RW_E_INVALID, rw_metadata_find("", 0, NULL, 1, &value, &len));
    GIVES(RW_E_INVALID, rw_metadata_find("", 0, "a", 1, NULL, &len));
    GIVES(RW_E_INVALID, rw_metadata_find("", 0, "a", 1, &value, NULL));
    GIVES(RW_E_INVALID, rw_method_id(NULL, 0, &id));
    GIVES(RW_E_INVALID, rw_method_id("a.B/C", 5, NULL));
    GIVES(RW_E_INVALID, rw_driver_name(engine, NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_driver_name(engine, text, 4, NULL));
    GIVES(RW_E_INVALID, rw_driver_why(engine, NULL, 4, &len));
    GIVES(RW_E_INVALID, rw_driver_why(engine, text, 4, NULL));
    GIVES(RW_E_INVALID, rw_stats_read(engine, NULL));

    /* And what is none, or out of its range. */
    GIVES(RW_E_INVALID, rw_now_ns(engine, (uint64_t *)(void *)(text + 1)));
    GIVES(RW_E_INVALID, rw_send(engine, 1, text, SIZE_MAX));
    options.struct_size = 7;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.struct_size = 5000;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.struct_size = sizeof options;
    options.flags = 8;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.flags = 0;
    options.priority = 8;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.priority = 7;
    options.timeout_ns = -1;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.timeout_ns = 0;
    options.metadata_len = 16;
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    options.metadata = "0123456789abcdef";
    GIVES(RW_E_INVALID, rw_call(engine, 1, 0, &options, NULL, 0, 0, &call));
    {
        rw_stats stats = RW_STATS_INIT;
        stats.struct_size = 7;
        GIVES(RW_E_INVALID, rw_stats_read(engine, &stats));
        /* An older program's, which ends before `copies`. */
        stats.struct_size = offsetof(rw_stats, copies);
        stats.copies = 12345;
        GIVES(RW_OK, rw_stats_read(engine, &stats));
        HOLDS(stats.copies == 12345 && stats.struct_size == offsetof(rw_stats, copies));
    }
}

/* An id that is over, made up, or of another kind or engine. */
static void stale(rw_engine engine, uint64_t id)
{
    rw_buf buf;
    rw_event event;
    rw_request_details info;
    rw_call_id call;
    const void *data;
    char text[8];
    size_t len;
    uint64_t bytes;
    uint32_t number;
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    GIVES(RW_E_STALE, rw_unlisten(engine, id));
    GIVES(RW_E_STALE, rw_listener_address(engine, id, text, sizeof text, &len));
    GIVES(RW_E_STALE, rw_peer_address(engine, id, text, sizeof text, &len));
    GIVES(RW_E_STALE, rw_close(engine, id, 0));
    GIVES(RW_E_STALE, rw_drain(engine, id));
    GIVES(RW_E_STALE, rw_hold(engine, id, 1));
    GIVES(RW_E_STALE, rw_pause(engine, id, 1));
    GIVES(RW_E_STALE, rw_queued_bytes(engine, id, &bytes));
    GIVES(RW_E_STALE, rw_message_bytes_max(engine, id, &bytes));
    GIVES(RW_E_STALE, rw_timer_cancel(engine, id));
    GIVES(RW_E_STALE, rw_claim(engine, id, 1, &buf));
    GIVES(RW_E_STALE, rw_send(engine, id, "x", 1));
    GIVES(RW_E_STALE, rw_send_lease(engine, id, id));
    GIVES(RW_E_STALE, rw_send_ref(engine, id, "x", 1, 0));
    GIVES(RW_E_STALE, rw_detach(engine, id, &buf));
    GIVES(RW_E_STALE, rw_detached_data(id, &buf));
    GIVES(RW_E_STALE, rw_detached_release(id));
    GIVES(RW_E_STALE, rw_attach(engine, id, &buf));
    GIVES(RW_E_STALE, rw_lease_truncate(engine, id, 1));
    GIVES(RW_E_STALE, rw_lease_data(engine, id, &buf));
    GIVES(RW_E_STALE, rw_release(engine, id));
    GIVES(RW_E_STALE, rw_channel_close(engine, id));
    GIVES(RW_E_STALE, rw_channel_ready(engine, id, 0));
    GIVES(RW_E_STALE, rw_method_bind(engine, id, "a.B/C", 5, 0, 0, 0, &number));
    GIVES(RW_E_STALE, rw_call(engine, id, 0, NULL, NULL, 0, 0, &call));
    GIVES(RW_E_STALE, rw_call_one_way(engine, id, 0, NULL, NULL, 0));
    GIVES(RW_E_STALE, rw_call_sync(engine, id, 0, &options, NULL, 0, &event));
    GIVES(RW_E_STALE, rw_call_cancel(engine, id));
    GIVES(RW_E_STALE, rw_stream_send(engine, id, "x", 1, 0));
    GIVES(RW_E_STALE, rw_stream_end(engine, id));
    GIVES(RW_E_STALE, rw_answer_text(engine, id, text, sizeof text, &len));
    GIVES(RW_E_STALE, rw_answer_metadata(engine, id, &data, &len));
    GIVES(RW_E_STALE, rw_request_info(engine, id, &info));
    GIVES(RW_E_STALE, rw_request_user(engine, id, 1));
    GIVES(RW_E_STALE, rw_reply(engine, id, "", 0));
    GIVES(RW_E_STALE, rw_reply_lease(engine, id, id));
    GIVES(RW_E_STALE, rw_reply_metadata(engine, id, NULL, 0));
    GIVES(RW_E_STALE, rw_reply_send(engine, id, "x", 1));
    GIVES(RW_E_STALE, rw_reply_send_lease(engine, id, id));
    GIVES(RW_E_STALE, rw_reply_end(engine, id));
    GIVES(RW_E_STALE, rw_reply_error(engine, id, RW_CODE_NOT_FOUND, "", 0));
}

/* What an open claim excludes, whether events wait or not. */
static void busy(rw_engine engine, rw_connection connection)
{
    rw_event event;
    rw_timer timer;
    rw_stats stats = RW_STATS_INIT;
    rw_listener listener;
    uint64_t value;
    uint32_t count;
    GIVES(RW_E_BUSY, rw_poll(engine, &event, 1, &count, 0));
    GIVES(RW_E_BUSY, rw_poll(engine, &event, 1, &count, 1000));
    GIVES(RW_E_BUSY, rw_poll(engine, &event, 1, &count, -1));
    GIVES(RW_E_BUSY, rw_timer_set(engine, 1, 0, &timer));
    GIVES(RW_E_BUSY, rw_stats_read(engine, &stats));
    GIVES(RW_E_BUSY, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_E_BUSY, rw_queued_bytes(engine, connection, &value));
    GIVES(RW_E_BUSY, rw_send_ref(engine, connection, "x", 1, 0));
    GIVES(RW_E_BUSY, rw_reply_end(engine, 1));
    GIVES(RW_E_BUSY, rw_request_user(engine, 1, 1));
    GIVES(RW_E_BUSY, rw_call_cancel(engine, 1));
    GIVES(RW_E_BUSY, rw_now_ns(engine, &value));
    GIVES(RW_E_BUSY, rw_engine_drain(engine));
}

int main(void)
{
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    struct {
        rw_engine_config known;
        uint64_t unknown;
    } newer;
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
    int ended;

    /* Creation. */
    GIVES(RW_E_INVALID, rw_engine_create(&config, NULL));
    config.struct_size = 3;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.struct_size = sizeof config;
    config.driver = 77;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.driver = 0;
    config.idle = 77;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.idle = 0;
    config.connections_max = 17000000;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    HOLDS(says("connections_max"));
    config.connections_max = 0;
    /* Longer messages than the memory that they go to. */
    config.budget_bytes = 4096;
    GIVES(RW_E_INVALID, rw_engine_create(&config, &engine));
    config.budget_bytes = 0;
    newer.known = config;
    newer.known.struct_size = sizeof newer;
    newer.unknown = 1;
    GIVES(RW_E_INVALID, rw_engine_create(&newer.known, &engine));
    GIVES(RW_OK, rw_engine_create(NULL, &other));
    GIVES(RW_OK, rw_engine_create(&config, &engine));

    no_pointers(engine);
    GIVES(RW_E_INVALID, rw_listen(engine, "\xff\xfe", 2, &listener));
    GIVES(RW_E_ADDRESS, rw_listen(engine, "nowhere", 7, &listener));
    GIVES(RW_E_ADDRESS, rw_channel_open(engine, "nowhere", 7, &channel));
    /* Calls need what datagrams have not. */
    GIVES(RW_E_REFUSED, rw_serve(engine, "udp://127.0.0.1:0", 17, &listener));
    /* Without TLS settings there is no QUIC. */
    GIVES(RW_E_STATE, rw_listen(engine, "quic://127.0.0.1:0", 18, &listener));
    HOLDS(says("in C"));
    GIVES(RW_E_REFUSED, rw_channel_open(engine, "rudp://192.0.2.1:1", 18, &channel));
    HOLDS(says("public"));
    GIVES(RW_E_ADDRESS, rw_listen(engine, "tcp://127.0.0.1:99999", 21, &listener));
    HOLDS(says("host and port"));
    memset(&method, 0, sizeof method);
    GIVES(RW_E_INVALID, rw_service_add(engine, "a.B", 3, &method, 1, &number));

    stale(engine, 1);
    stale(engine, 0);
    stale(engine, ~(uint64_t)0);
    GIVES(RW_E_STALE, rw_poll(0, &event, 1, &count, 0));
    GIVES(RW_E_STALE, rw_poll(~(uint64_t)0, &event, 1, &count, 0));
    GIVES(RW_E_STALE, rw_wake(12345));
    GIVES(RW_E_STATE, rw_commit(engine, 1));
    GIVES(RW_E_STATE, rw_commit_as(engine, 1, 0x40, 0, 0, 0));
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
    stale(other, client);
    stale(other, listener);
    GIVES(RW_E_STALE, rw_send(engine, foreign, "x", 1));

    /* A claim excludes all else, but for leases. */
    GIVES(RW_E_INVALID, rw_claim(engine, client, 8, NULL));
    GIVES(RW_E_TOO_LONG, rw_claim(engine, client, (size_t)1 << 40, &room));
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    GIVES(RW_E_BUSY, rw_claim(engine, client, 8, &written));
    GIVES(RW_E_BUSY, rw_send(engine, client, "x", 1));
    busy(engine, client);
    memcpy(room.data, "claimed!", 8);
    GIVES(RW_OK, rw_commit(engine, 8));
    GIVES(RW_E_STATE, rw_commit(engine, 8));
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    GIVES(RW_OK, rw_abort(engine));
    message = next(engine, RW_EV_MESSAGE);
    HOLDS(message.id == server && message.len == 8 && memcmp(message.data, "claimed!", 8) == 0);

    stale(other, message.lease);

    /* Leases end once. What was sent or received is not written any more. */
    GIVES(RW_E_STATE, rw_lease_truncate(engine, message.lease, 1));
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

    /* A claim is in the way of events that were made already too; leases are not in its way. */
    GIVES(RW_OK, rw_timer_set(engine, 0, 1, &timer));
    GIVES(RW_OK, rw_timer_set(engine, 0, 2, &timer));
    next(engine, RW_EV_TIMER);
    GIVES(RW_OK, rw_lease_new(engine, 5, &written));
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    busy(engine, client);
    GIVES(RW_OK, rw_lease_data(engine, written.lease, &written));
    GIVES(RW_OK, rw_release(engine, written.lease));
    GIVES(RW_OK, rw_lease_data(engine, message.lease, &written));
    GIVES(RW_OK, rw_abort(engine));
    HOLDS(written.len == 5 && memcmp(written.data, "lease", 5) == 0);
    next(engine, RW_EV_TIMER);

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
        /* Killed, not ended: a checker of memory would miss what only the parent can free. */
        kill(getpid(), refused ? SIGKILL : SIGTERM);
        _exit(1);
    }
    HOLDS(waitpid(child, &ended, 0) == child);
    HOLDS(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL);

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
