/* Messages and calls in steady state: no allocation in the process, no copy of a payload inside the library. */
#include "check.h"

#define ROUNDS 2000

static uint64_t allocations;

/* glibc's own; these stand in front of them for the program and for the library. */
extern void *__libc_malloc(size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

static rw_engine engine;
static rw_connection client;
static rw_channel channel;
static uint32_t say, served;

static uint64_t copies(void)
{
    rw_stats stats = RW_STATS_INIT;
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.leases == 0 && stats.requests == 0 && stats.calls == 0);
    return stats.copies;
}

static void message(void)
{
    rw_buf room;
    rw_event event;
    GIVES(RW_OK, rw_claim(engine, client, 64, &room));
    memset(room.data, 'm', 64);
    GIVES(RW_OK, rw_commit(engine, 64));
    event = next(engine, RW_EV_MESSAGE);
    HOLDS(event.len == 64 && ((const char *)event.data)[63] == 'm');
    GIVES(RW_OK, rw_release(engine, event.lease));
}

static void call(void)
{
    char request[64];
    rw_event event;
    rw_call_id id;
    memset(request, 'c', sizeof request);
    GIVES(RW_OK, rw_call(engine, channel, say, NULL, request, sizeof request, 5, &id));
    event = next(engine, RW_EV_REQUEST);
    HOLDS(event.method == served && event.len == 64);
    GIVES(RW_OK, rw_reply(engine, event.id, event.data, (size_t)event.len));
    GIVES(RW_OK, rw_release(engine, event.lease));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == id && event.user == 5 && event.status == RW_CODE_OK);
    HOLDS(event.len == 64 && memcmp(event.data, request, 64) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
}

static void measured(const char *what, void (*round)(void))
{
    uint64_t allocated, copied;
    int at;
    for (at = 0; at < ROUNDS; at++)
        round();
    allocated = allocations;
    copied = copies();
    for (at = 0; at < ROUNDS; at++)
        round();
    allocated = allocations - allocated;
    copied = copies() - copied;
    printf("%s: %u allocations, %u copies in %d\n", what, (unsigned)allocated, (unsigned)copied, ROUNDS);
    /* A message that straddles two receive slots is copied, once per slot of 16 KiB at most. */
    HOLDS(allocated == 0 && copied <= ROUNDS / 50);
}

int main(void)
{
    static const char ADDRESS[] = "tcp://127.0.0.1:0";
    static const char NAME[] = "demo.Echo";
    static const char FULL[] = "demo.Echo/Say";
    rw_method method = {"Say", 3, RW_KIND_UNARY, 0, RW_CODEC_RAW, 0, {0, 0, 0, 0, 0, 0}};
    rw_listener listener;
    rw_event event;
    rw_call_id id;
    char text[128];
    size_t len;

    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, text, sizeof text, &len));
    GIVES(RW_OK, rw_connect(engine, text, len, &client));
    next(engine, RW_EV_OPENED);
    next(engine, RW_EV_OPENED);
    measured("messages", message);

    GIVES(RW_OK, rw_service_add(engine, NAME, strlen(NAME), &method, 1, &served));
    GIVES(RW_OK, rw_serve(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_E_STATE, rw_service_add(engine, NAME, strlen(NAME), &method, 1, &served));
    GIVES(RW_OK, rw_listener_address(engine, listener, text, sizeof text, &len));
    GIVES(RW_OK, rw_channel_open(engine, text, len, &channel));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
    GIVES(RW_OK, rw_method_bind(engine, channel, FULL, strlen(FULL), RW_KIND_UNARY, 0, 0, &say));
    measured("calls", call);

    /* An error has its code and its text. */
    GIVES(RW_OK, rw_call(engine, channel, say, NULL, "x", 1, 0, &id));
    event = next(engine, RW_EV_REQUEST);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_reply_error(engine, event.id, RW_CODE_NOT_FOUND, "no such thing", 13));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.status == RW_CODE_NOT_FOUND);
    GIVES(RW_OK, rw_answer_text(engine, event.lease, text, sizeof text, &len));
    HOLDS(len == 13 && memcmp(text, "no such thing", 13) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_E_STALE, rw_call_cancel(engine, id));

    /* Who gives a call up frees the other side of it. */
    GIVES(RW_OK, rw_call(engine, channel, say, NULL, "x", 1, 0, &id));
    event = next(engine, RW_EV_REQUEST);
    GIVES(RW_OK, rw_request_user(engine, event.id, 99));
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_call_cancel(engine, id));
    event = next(engine, RW_EV_CANCELLED);
    HOLDS(event.user == 99);
    GIVES(RW_E_STALE, rw_reply(engine, event.id, "", 0));
    GIVES(RW_OK, rw_engine_destroy(engine));
    return 0;
}
