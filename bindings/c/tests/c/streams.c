/* Streams of a server in Rust: `streams ADDRESS`, where bench.Echo is served. */
#include "check.h"

static rw_engine engine;
static rw_channel channel;

static uint32_t bound(const char *name, uint32_t kind)
{
    uint32_t method;
    GIVES(RW_OK, rw_method_bind(engine, channel, name, strlen(name), kind, RW_CODEC_PROTOBUF, 0, &method));
    return method;
}

static rw_call_id opened(uint32_t method, const void *data, size_t len, uint64_t user)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_call_id call;
    options.flags = RW_CALL_STREAM;
    GIVES(RW_OK, rw_call(engine, channel, method, &options, data, len, user, &call));
    return call;
}

static uint64_t varint(const unsigned char *from)
{
    uint64_t value = 0;
    unsigned shift = 0;
    do
        value |= (uint64_t)(*from & 0x7f) << shift, shift += 7;
    while (*from++ & 0x80);
    return value;
}

/* How many messages the server says it got. */
static void counted(rw_call_id call, uint64_t count, uint64_t user)
{
    rw_event event = next(engine, RW_EV_RESPONSE);
    const unsigned char *data = (const unsigned char *)event.data;
    HOLDS(event.id == call && event.user == user && event.status == RW_CODE_OK);
    HOLDS(event.len > 1 && data[0] == 0x08 && varint(data + 1) == count);
    GIVES(RW_OK, rw_release(engine, event.lease));
}

/* A Payload: its one field is the body, here of 16 KiB. */
static unsigned char payload[4 + 16384] = {0x0a, 0x80, 0x80, 0x01};

static void client_streams(void)
{
    static const unsigned char SMALL[] = {0x0a, 1, 'x'};
    uint32_t drain = bound("bench.Echo/Drain", RW_KIND_CLIENT_STREAM);
    rw_call_id call;
    rw_event event;
    uint64_t sent = 0, refused = 0;

    /* One with the call, one that is the last. */
    call = opened(drain, SMALL, sizeof SMALL, 1);
    GIVES(RW_OK, rw_stream_send(engine, call, SMALL, sizeof SMALL, 0));
    GIVES(RW_OK, rw_stream_send(engine, call, SMALL, sizeof SMALL, 1));
    GIVES(RW_E_STALE, rw_stream_send(engine, call, SMALL, sizeof SMALL, 1));
    GIVES(RW_E_STALE, rw_stream_end(engine, call));
    counted(call, 3, 1);
    GIVES(RW_E_STALE, rw_stream_send(engine, call, SMALL, sizeof SMALL, 1));
    GIVES(RW_E_STALE, rw_stream_end(engine, call));

    /* None at all. */
    call = opened(drain, NULL, 0, 2);
    GIVES(RW_OK, rw_stream_end(engine, call));
    GIVES(RW_E_STALE, rw_stream_end(engine, call));
    GIVES(RW_E_STALE, rw_stream_send(engine, call, SMALL, sizeof SMALL, 1));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.status == RW_CODE_OK && event.len == 0);
    if (event.lease != 0)
        GIVES(RW_OK, rw_release(engine, event.lease));

    /* More than there is room for: what was refused was not sent, and room is told. */
    call = opened(drain, NULL, 0, 3);
    while (sent < 200) {
        int32_t status = rw_stream_send(engine, call, payload, sizeof payload, 0);
        if (status == RW_OK) {
            sent++;
            continue;
        }
        GIVES(RW_AGAIN, status);
        refused++;
        event = next(engine, RW_EV_STREAM_WRITABLE);
        HOLDS(event.id == call && event.user == 3);
    }
    HOLDS(refused > 0);
    GIVES(RW_OK, rw_stream_end(engine, call));
    counted(call, sent, 3);

    /* Given up. */
    call = opened(drain, SMALL, sizeof SMALL, 4);
    GIVES(RW_OK, rw_call_cancel(engine, call));
    GIVES(RW_E_STALE, rw_call_cancel(engine, call));
    GIVES(RW_E_STALE, rw_stream_end(engine, call));
}

/* The server sends as much as its credit allows, and goes on when messages are released. */
static void server_streams(void)
{
    /* 100 bodies of 16 KiB. */
    static const unsigned char WANTED[] = {0x08, 100, 0x10, 0x80, 0x80, 0x01};
    uint32_t pour = bound("bench.Echo/Pour", RW_KIND_SERVER_STREAM);
    rw_event held[100], event;
    uint32_t count, came = 0, at;
    rw_call_id call;
    GIVES(RW_OK, rw_call(engine, channel, pour, NULL, WANTED, sizeof WANTED, 5, &call));
    GIVES(RW_E_STALE, rw_stream_end(engine, call));
    held[came++] = next(engine, RW_EV_STREAM_MESSAGE);
    while (rw_poll(engine, &event, 1, &count, 100000000) == RW_OK) {
        HOLDS(event.kind == RW_EV_STREAM_MESSAGE && event.id == call && event.user == 5 && event.len > 16384);
        HOLDS(came < 100);
        held[came++] = event;
    }
    HOLDS(came < 100);
    for (at = 0; at < came; at++)
        GIVES(RW_OK, rw_release(engine, held[at].lease));
    GIVES(RW_E_STALE, rw_release(engine, held[0].lease));
    while (came < 100) {
        event = next(engine, RW_EV_STREAM_MESSAGE);
        GIVES(RW_OK, rw_release(engine, event.lease));
        came++;
    }
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.status == RW_CODE_OK);
    if (event.lease != 0)
        GIVES(RW_OK, rw_release(engine, event.lease));
}

static void both(void)
{
    static const unsigned char SMALL[] = {0x0a, 2, 'h', 'i'};
    uint32_t chat = bound("bench.Echo/Chat", RW_KIND_BIDI);
    rw_call_id call = opened(chat, NULL, 0, 6);
    rw_event event;
    int at;
    for (at = 0; at < 50; at++) {
        GIVES(RW_OK, rw_stream_send(engine, call, SMALL, sizeof SMALL, at == 49));
        event = next(engine, RW_EV_STREAM_MESSAGE);
        HOLDS(event.id == call && event.len == sizeof SMALL && memcmp(event.data, SMALL, sizeof SMALL) == 0);
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.status == RW_CODE_OK);
}

/* Unary calls of the same server: waited for, with and without the right method. */
static void waited_for(void)
{
    static const unsigned char SMALL[] = {0x0a, 2, 'h', 'i'};
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    uint32_t say = bound("bench.Echo/Say", RW_KIND_UNARY), none = bound("bench.Echo/None", RW_KIND_UNARY);
    uint32_t sleeps = bound("bench.Echo/Sleep", RW_KIND_UNARY);
    static const unsigned char LONG[] = {0x08, 0xc0, 0x84, 0x3d}; /* a second */
    rw_timer timer;
    rw_event event;
    uint32_t count;
    HOLDS(bound("bench.Echo/Say", RW_KIND_UNARY) == say);
    /* What else happens meanwhile stays for rw_poll. */
    GIVES(RW_OK, rw_timer_set(engine, 0, 9, &timer));
    GIVES(RW_OK, rw_call_sync(engine, channel, say, NULL, SMALL, sizeof SMALL, &event));
    HOLDS(event.kind == RW_EV_RESPONSE && event.status == RW_CODE_OK && event.len == sizeof SMALL);
    HOLDS(memcmp(event.data, SMALL, sizeof SMALL) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_poll(engine, &event, 1, &count, 0));
    HOLDS(event.kind == RW_EV_TIMER && event.user == 9);

    options.timeout_ns = 20000000;
    GIVES(RW_OK, rw_call_sync(engine, channel, sleeps, &options, LONG, sizeof LONG, &event));
    HOLDS(event.status == RW_CODE_DEADLINE_EXCEEDED);
    GIVES(RW_OK, rw_release(engine, event.lease));
    options.flags = RW_CALL_STREAM;
    GIVES(RW_E_INVALID, rw_call_sync(engine, channel, say, &options, SMALL, sizeof SMALL, &event));
    GIVES(RW_E_REFUSED, rw_call_sync(engine, channel, none, NULL, SMALL, sizeof SMALL, &event));
    GIVES(RW_E_REFUSED, rw_call_sync(engine, channel, 77, NULL, SMALL, sizeof SMALL, &event));
}

int main(int argc, char **argv)
{
    rw_stats stats = RW_STATS_INIT;
    HOLDS(argc == 2);
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_channel_open(engine, argv[1], strlen(argv[1]), &channel));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
    client_streams();
    server_streams();
    both();
    waited_for();
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.leases == 0 && stats.calls == 0);
    GIVES(RW_OK, rw_engine_destroy(engine));
    return 0;
}
