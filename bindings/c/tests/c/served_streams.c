/* A service in C whose methods stream, called from the same engine. */
#include "check.h"

static const char ADDRESS[] = "tcp://127.0.0.1:0";
static rw_engine engine;
static rw_channel channel;
static uint32_t first;

static uint32_t bound(const char *name, uint32_t kind)
{
    uint32_t method;
    GIVES(RW_OK, rw_method_bind(engine, channel, name, strlen(name), kind, 0, 0, &method));
    return method;
}

static void served(void)
{
    rw_method methods[4] = {{"One", 3, RW_KIND_UNARY, 0, 0, 0, {0, 0, 0, 0, 0, 0}},
                            {"Sum", 3, RW_KIND_CLIENT_STREAM, 0, 0, 0, {0, 0, 0, 0, 0, 0}},
                            {"Count", 5, RW_KIND_SERVER_STREAM, 0, 0, 0, {0, 0, 0, 0, 0, 0}},
                            {"Chat", 4, RW_KIND_BIDI, 0, 0, 0, {0, 0, 0, 0, 0, 0}}};
    rw_listener listener;
    char text[128];
    size_t len;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_service_add(engine, "demo.Streams", 12, methods, 4, &first));
    GIVES(RW_OK, rw_serve(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, text, sizeof text, &len));
    GIVES(RW_OK, rw_channel_open(engine, text, len, &channel));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
}

static rw_call_id opened(uint32_t method, const void *data, size_t len, uint32_t flags)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_call_id call;
    options.flags = flags;
    GIVES(RW_OK, rw_call(engine, channel, method, &options, data, len, 5, &call));
    return call;
}

static void let_go(rw_event event)
{
    if (event.lease != 0)
        GIVES(RW_OK, rw_release(engine, event.lease));
}

static void ends(rw_call_id call, int32_t code, const char *text)
{
    rw_event event = next(engine, RW_EV_RESPONSE);
    char said[64];
    size_t len = 0;
    HOLDS(event.id == call && event.status == code);
    if (text != NULL) {
        GIVES(RW_OK, rw_answer_text(engine, event.lease, said, sizeof said, &len));
        HOLDS(len == strlen(text) && memcmp(said, text, len) == 0);
    }
    let_go(event);
}

/* Every message of the client, in order, then the end; one answer with metadata. */
static void sums(void)
{
    uint32_t sum = bound("demo.Streams/Sum", RW_KIND_CLIENT_STREAM);
    rw_call_id call = opened(sum, "a", 1, RW_CALL_STREAM);
    rw_request request;
    rw_event event;
    char block[64];
    const void *data, *value;
    size_t used = 0, len;
    event = next(engine, RW_EV_REQUEST);
    request = event.id;
    HOLDS(event.method == first + 1 && event.lease == 0);
    GIVES(RW_OK, rw_request_user(engine, request, 44));
    event = next(engine, RW_EV_REQUEST_MESSAGE);
    HOLDS(event.id == request && event.len == 1 && memcmp(event.data, "a", 1) == 0);
    let_go(event);
    GIVES(RW_OK, rw_stream_send(engine, call, "bc", 2, 0));
    event = next(engine, RW_EV_REQUEST_MESSAGE);
    HOLDS(event.user == 44 && event.len == 2 && memcmp(event.data, "bc", 2) == 0);
    /* One method's answers are not another's. */
    GIVES(RW_E_STATE, rw_reply_send(engine, request, "x", 1));
    GIVES(RW_E_STATE, rw_reply_send_lease(engine, request, event.lease));
    GIVES(RW_E_STATE, rw_reply_end(engine, request));
    let_go(event);
    GIVES(RW_OK, rw_stream_end(engine, call));
    event = next(engine, RW_EV_REQUEST_END);
    HOLDS(event.id == request && event.user == 44);
    GIVES(RW_OK, rw_metadata_add(block, sizeof block, &used, "sum", 3, "abc", 3));
    GIVES(RW_OK, rw_reply_metadata(engine, request, block, used));
    memset(block, 0xff, sizeof block);
    GIVES(RW_OK, rw_reply(engine, request, "abc", 3));
    GIVES(RW_E_STALE, rw_reply(engine, request, "abc", 3));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.status == RW_CODE_OK && event.len == 3 && event.user == 5);
    GIVES(RW_OK, rw_answer_metadata(engine, event.lease, &data, &len));
    GIVES(RW_OK, rw_metadata_find(data, len, "sum", 3, &value, &used));
    HOLDS(used == 3 && memcmp(value, "abc", 3) == 0);
    let_go(event);
}

/* A client that takes nothing holds the server back; nothing is lost or reordered. */
static void counts(void)
{
    static unsigned char message[8000];
    uint32_t count = bound("demo.Streams/Count", RW_KIND_SERVER_STREAM), at, sent = 0, came = 0;
    rw_call_id call = opened(count, "go", 2, 0);
    rw_event event = next(engine, RW_EV_REQUEST);
    rw_request request = event.id;
    rw_lease held[4096];
    uint32_t kept = 0, got;
    int writable = 0;
    HOLDS(event.method == first + 2 && event.len == 2);
    let_go(event);
    GIVES(RW_E_STATE, rw_reply(engine, request, "x", 1));
    GIVES(RW_E_STATE, rw_reply_lease(engine, request, 1));
    for (;;) {
        int32_t status;
        memcpy(message, &sent, sizeof sent);
        status = rw_reply_send(engine, request, message, sizeof message);
        if (status == RW_AGAIN) {
            /* What has arrived is kept, so that no credit goes back. */
            while (rw_poll(engine, &event, 1, &got, 1000000) == RW_OK) {
                HOLDS(event.kind == RW_EV_STREAM_MESSAGE && kept < 4096);
                memcpy(&at, event.data, sizeof at);
                HOLDS(at == came++);
                held[kept++] = event.lease;
            }
            break;
        }
        GIVES(RW_OK, status);
        sent++;
        HOLDS(sent < 4096);
    }
    HOLDS(sent > came);
    while (kept > 0)
        GIVES(RW_OK, rw_release(engine, held[--kept]));
    while (came < sent || !writable) {
        GIVES(RW_OK, rw_poll(engine, &event, 1, &got, -1));
        if (event.kind == RW_EV_REQUEST_WRITABLE) {
            HOLDS(event.id == request);
            writable = 1;
        } else {
            HOLDS(event.kind == RW_EV_STREAM_MESSAGE);
            memcpy(&at, event.data, sizeof at);
            HOLDS(at == came++);
            let_go(event);
        }
    }
    GIVES(RW_OK, rw_reply_send(engine, request, "last", 4));
    GIVES(RW_OK, rw_reply_end(engine, request));
    GIVES(RW_E_STALE, rw_reply_end(engine, request));
    event = next(engine, RW_EV_STREAM_MESSAGE);
    HOLDS(event.len == 4);
    let_go(event);
    ends(call, RW_CODE_OK, NULL);
}

static void chats(void)
{
    uint32_t chat = bound("demo.Streams/Chat", RW_KIND_BIDI), at;
    rw_call_id call = opened(chat, NULL, 0, RW_CALL_STREAM);
    rw_request request = next(engine, RW_EV_REQUEST).id;
    rw_event event;
    for (at = 0; at < 200; at++) {
        static unsigned char message[8000];
        GIVES(RW_OK, rw_stream_send(engine, call, message, sizeof message, 0));
        event = next(engine, RW_EV_REQUEST_MESSAGE);
        HOLDS(event.id == request && event.len == sizeof message);
        GIVES(RW_OK, rw_reply_send_lease(engine, request, event.lease));
        let_go(event);
        event = next(engine, RW_EV_STREAM_MESSAGE);
        HOLDS(event.len == sizeof message);
        let_go(event);
    }
    GIVES(RW_OK, rw_reply_error(engine, request, RW_CODE_ABORTED, "enough", 6));
    ends(call, RW_CODE_ABORTED, "enough");

    /* A client that gives up is told once; its messages can still be released. */
    call = opened(chat, "x", 1, RW_CALL_STREAM);
    request = next(engine, RW_EV_REQUEST).id;
    GIVES(RW_OK, rw_request_user(engine, request, 9));
    event = next(engine, RW_EV_REQUEST_MESSAGE);
    GIVES(RW_OK, rw_call_cancel(engine, call));
    HOLDS(next(engine, RW_EV_CANCELLED).user == 9);
    GIVES(RW_E_STALE, rw_reply_send(engine, request, "x", 1));
    GIVES(RW_E_STALE, rw_reply_end(engine, request));
    let_go(event);
}

int main(void)
{
    rw_stats stats = RW_STATS_INIT;
    served();
    sums();
    counts();
    chats();
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.leases == 0 && stats.calls == 0 && stats.requests == 0);
    /* Destroyed with a stream that is owed its end. */
    opened(bound("demo.Streams/Chat", RW_KIND_BIDI), "x", 1, RW_CALL_STREAM);
    next(engine, RW_EV_REQUEST_MESSAGE);
    GIVES(RW_OK, rw_engine_destroy(engine));
    return 0;
}
