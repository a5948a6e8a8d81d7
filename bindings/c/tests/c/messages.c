/* Connections for messages: what holds them back, what ends them, what their figures are. */
#include "check.h"

static const char ADDRESS[] = "tcp://127.0.0.1:0";

static rw_engine engine;
static rw_listener listener;
static rw_connection client, server;

/* One engine with both ends of one connection. */
static void connected(uint32_t leases_max)
{
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_event event;
    char bound[128];
    size_t len;
    config.leases_max = leases_max;
    GIVES(RW_OK, rw_engine_create(&config, &engine));
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(engine, bound, len, &client));
    server = 0;
    while (server == 0) {
        event = next(engine, RW_EV_OPENED);
        if (event.user == listener)
            server = event.id;
        else
            HOLDS(event.id == client && event.user == 0);
    }
}

/* Both ends may open in either order: turns until nothing comes any more. */
static void settled(void)
{
    rw_event event;
    uint32_t count;
    int at;
    for (at = 0; at < 20; at++)
        while (rw_poll(engine, &event, 1, &count, 1000000) == RW_OK)
            HOLDS(event.kind == RW_EV_OPENED);
}

/* Nothing of this kind comes. */
static void nothing(void)
{
    rw_event event;
    uint32_t count = 7;
    GIVES(RW_AGAIN, rw_poll(engine, &event, 1, &count, 30000000));
    HOLDS(count == 0);
}

static void received(rw_connection at, const char *text)
{
    rw_event event = next(engine, RW_EV_MESSAGE);
    HOLDS(event.id == at && event.len == strlen(text) && memcmp(event.data, text, strlen(text)) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
}

static void paused(void)
{
    connected(0);
    settled();
    GIVES(RW_OK, rw_pause(engine, server, 1));
    GIVES(RW_OK, rw_send(engine, client, "later", 5));
    nothing();
    GIVES(RW_OK, rw_pause(engine, server, 0));
    received(server, "later");
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* Who keeps leases is held back; what foreign code has paused stays so when they are released. */
static void held_back(void)
{
    rw_event held[4];
    uint32_t at;
    connected(4);
    settled();
    for (at = 0; at < 4; at++) {
        GIVES(RW_OK, rw_send(engine, client, "held", 4));
        held[at] = next(engine, RW_EV_MESSAGE);
    }
    GIVES(RW_OK, rw_send(engine, client, "fifth", 5));
    nothing();
    GIVES(RW_OK, rw_pause(engine, server, 0));
    nothing();
    GIVES(RW_OK, rw_pause(engine, server, 1));
    for (at = 0; at < 4; at++)
        GIVES(RW_OK, rw_release(engine, held[at].lease));
    nothing();
    GIVES(RW_OK, rw_pause(engine, server, 0));
    received(server, "fifth");
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* A drain waits for whoever holds. */
static void drained(void)
{
    rw_event event;
    connected(0);
    settled();
    GIVES(RW_OK, rw_hold(engine, server, 1));
    GIVES(RW_OK, rw_drain(engine, client));
    event = next(engine, RW_EV_DRAINING);
    HOLDS(event.id == server);
    nothing();
    GIVES(RW_OK, rw_send(engine, server, "last", 4));
    received(client, "last");
    GIVES(RW_OK, rw_hold(engine, server, 0));
    event = next(engine, RW_EV_CLOSED);
    HOLDS(event.status == RW_CLOSED_DRAINED && event.word == 0 && event.len > 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    event = next(engine, RW_EV_CLOSED);
    HOLDS(event.status == RW_CLOSED_DRAINED);
    GIVES(RW_E_STALE, rw_hold(engine, server, 0));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* The whole engine drains: both ends close, and nobody new comes in. */
static void all_drained(void)
{
    rw_connection more;
    char bound[128];
    size_t len;
    connected(0);
    settled();
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_engine_drain(engine));
    GIVES(RW_E_STATE, rw_connect(engine, bound, len, &more));
    next(engine, RW_EV_CLOSED);
    next(engine, RW_EV_CLOSED);
    GIVES(RW_OK, rw_engine_destroy(engine));
}

static void closed(void)
{
    rw_event event;
    char bound[128];
    size_t len;
    int at;
    connected(0);
    settled();
    GIVES(RW_OK, rw_close(engine, client, 0));
    for (at = 0; at < 2; at++) {
        event = next(engine, RW_EV_CLOSED);
        HOLDS(event.status == (event.id == client ? RW_CLOSED_LOCAL : RW_CLOSED_PEER));
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    GIVES(RW_E_STALE, rw_send(engine, client, "x", 1));
    GIVES(RW_E_STALE, rw_peer_address(engine, client, bound, sizeof bound, &len));

    /* A listener ends once. */
    GIVES(RW_OK, rw_unlisten(engine, listener));
    GIVES(RW_E_STALE, rw_unlisten(engine, listener));
    GIVES(RW_E_STALE, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* A peer that was accepted before its listener was closed opens all the same, for messages. */
static void opened_late(void)
{
    rw_engine other;
    rw_event event;
    rw_connection late;
    uint32_t count;
    int32_t status;
    char bound[128];
    size_t len;
    connected(0);
    settled();
    GIVES(RW_OK, rw_engine_create(NULL, &other));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(other, bound, len, &late));
    GIVES(RW_AGAIN, rw_poll(other, &event, 1, &count, 0));
    status = rw_poll(engine, &event, 1, &count, 30000000);
    GIVES(RW_OK, rw_unlisten(engine, listener));
    while (status != RW_OK) {
        HOLDS(rw_poll(other, &event, 1, &count, 0) >= RW_OK);
        status = rw_poll(engine, &event, 1, &count, 10000000);
    }
    HOLDS(event.kind == RW_EV_OPENED && event.user == listener);
    GIVES(RW_OK, rw_engine_destroy(other));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

static void figures(void)
{
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_event event;
    rw_buf room, data;
    uint64_t bytes;
    char text[128], bound[128];
    size_t len, bound_len;
    rw_stats stats = RW_STATS_INIT;

    config.message_bytes_max = 1000000;
    config.driver = RW_DRIVER_EPOLL;
    GIVES(RW_OK, rw_engine_create(&config, &engine));
    GIVES(RW_OK, rw_driver_name(engine, text, sizeof text, &len));
    HOLDS(len == 5 && memcmp(text, "epoll", 5) == 0);
    GIVES(RW_OK, rw_driver_why(engine, NULL, 0, &len));
    HOLDS(len == 0);
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &bound_len));
    /* As much as fits, and the whole length. */
    memset(text, '#', sizeof text);
    GIVES(RW_OK, rw_listener_address(engine, listener, text, 3, &len));
    HOLDS(len == bound_len && memcmp(text, "tcp#", 4) == 0);
    GIVES(RW_OK, rw_connect(engine, bound, bound_len, &client));
    GIVES(RW_E_NOT_OPEN, rw_message_bytes_max(engine, client, &bytes));
    do
        event = next(engine, RW_EV_OPENED);
    while (event.id != client);
    HOLDS(event.len == 1000000);
    GIVES(RW_OK, rw_message_bytes_max(engine, client, &bytes));
    HOLDS(bytes == 1000000);
    GIVES(RW_OK, rw_peer_address(engine, client, text, sizeof text, &len));
    HOLDS(len == bound_len && memcmp(text, bound, len) == 0);
    settled();

    GIVES(RW_OK, rw_queued_bytes(engine, client, &bytes));
    HOLDS(bytes == 0);
    GIVES(RW_OK, rw_send(engine, client, "waits", 5));
    GIVES(RW_OK, rw_queued_bytes(engine, client, &bytes));
    HOLDS(bytes >= 5);
    event = next(engine, RW_EV_MESSAGE);
    server = event.id;
    HOLDS(event.message_kind >= 0x40 && event.len == 5 && memcmp(event.data, "waits", 5) == 0);
    GIVES(RW_OK, rw_lease_data(engine, event.lease, &data));
    HOLDS(data.data == event.data && data.len == 5 && data.lease == event.lease);
    /* It is sent back from where it was received, twice. */
    GIVES(RW_OK, rw_send_lease(engine, server, event.lease));
    GIVES(RW_OK, rw_send_lease(engine, server, event.lease));
    GIVES(RW_OK, rw_release(engine, event.lease));
    received(client, "waits");
    received(client, "waits");

    /* The fields for the layer above. */
    GIVES(RW_OK, rw_claim(engine, client, 8, &room));
    HOLDS(room.len == 8 && room.lease == 0);
    memcpy(room.data, "shorter!", 8);
    GIVES(RW_E_INVALID, rw_commit_as(engine, 7, 0x3f, 0, 0, 0));
    GIVES(RW_OK, rw_commit_as(engine, 7, 0x55, 0xa5, 0xbeef, 0x1122334455667788));
    event = next(engine, RW_EV_MESSAGE);
    HOLDS(event.id == server && event.message_kind == 0x55 && event.flags == 0xa5 && event.tag == 0xbeef);
    HOLDS(event.word == 0x1122334455667788 && event.len == 7 && memcmp(event.data, "shorter", 7) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));

    /* A written lease: shortened, sent, and then only read. */
    GIVES(RW_OK, rw_lease_new(engine, 10, &room));
    HOLDS(room.len == 10 && room.lease != 0);
    memcpy(room.data, "0123456789", 10);
    GIVES(RW_OK, rw_lease_truncate(engine, room.lease, 4));
    GIVES(RW_OK, rw_send_lease(engine, client, room.lease));
    GIVES(RW_E_STATE, rw_lease_truncate(engine, room.lease, 2));
    GIVES(RW_OK, rw_lease_data(engine, room.lease, &data));
    HOLDS(data.len == 4 && memcmp(data.data, "0123", 4) == 0);
    GIVES(RW_OK, rw_release(engine, room.lease));
    received(server, "0123");
    GIVES(RW_E_FULL, rw_lease_new(engine, (size_t)1 << 40, &room));
    GIVES(RW_E_TOO_LONG, rw_send(engine, client, bound, 1000001));

    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.leases == 0 && stats.connections == 2 && stats.messages_in == 5 && stats.messages_out == 5);
    HOLDS(stats.turns > 0 && stats.calls == 0 && stats.requests == 0);
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* A bound datagram socket receives; it knows nobody to send to. */
static void datagrams(void)
{
    static const char UDP[] = "udp://127.0.0.1:0";
    rw_event event;
    uint64_t bytes;
    char bound[128];
    size_t len;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_listen(engine, UDP, strlen(UDP), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(engine, bound, len, &client));
    event = next(engine, RW_EV_OPENED);
    HOLDS(event.id == client);
    GIVES(RW_E_NOT_OPEN, rw_message_bytes_max(engine, client, &bytes));
    GIVES(RW_OK, rw_send(engine, client, "datagram", 8));
    event = next(engine, RW_EV_MESSAGE);
    HOLDS(event.id != client && event.len == 8 && memcmp(event.data, "datagram", 8) == 0);
    GIVES(RW_E_INVALID, rw_send(engine, event.id, "answer", 6));
    HOLDS(says("rw_connect"));
    GIVES(RW_E_INVALID, rw_send_lease(engine, event.id, event.lease));
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* Many timers come in the order of their times; one that was cancelled does not come. */
static void timers(void)
{
    rw_timer timer[100];
    uint64_t at, before, after;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    for (at = 0; at < 100; at++)
        GIVES(RW_OK, rw_timer_set(engine, (100 - at) * 1000000, at, &timer[at]));
    GIVES(RW_OK, rw_timer_cancel(engine, timer[98]));
    GIVES(RW_E_STALE, rw_timer_cancel(engine, timer[98]));
    GIVES(RW_OK, rw_now_ns(engine, &before));
    for (at = 100; at-- > 0;) {
        rw_event event;
        if (at == 98)
            continue;
        event = next(engine, RW_EV_TIMER);
        HOLDS(event.user == at && event.id == timer[at]);
    }
    GIVES(RW_OK, rw_now_ns(engine, &after));
    HOLDS(after > before);
    /* A delay that never ends is none that wraps. */
    GIVES(RW_OK, rw_timer_set(engine, UINT64_MAX, 0, timer));
    nothing();
    GIVES(RW_OK, rw_timer_cancel(engine, timer[0]));
    GIVES(RW_OK, rw_engine_destroy(engine));
}

int main(void)
{
    paused();
    held_back();
    drained();
    all_drained();
    closed();
    opened_late();
    figures();
    datagrams();
    timers();
    return 0;
}
