/* Calls between two ends of one engine: metadata, priorities, leases, one-way calls, deadlines, cancellation. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const char ADDRESS[] = "tcp://127.0.0.1:0";
static const char SAY[] = "demo.Echo/Say";

static rw_engine engine;
static rw_channel channel;
static uint32_t say, first;

/* A block with two entries. */
static size_t metadata(char *block, size_t cap)
{
    size_t used = 0;
    GIVES(RW_OK, rw_metadata_add(block, cap, &used, "user-id", 7, "\0binary", 7));
    GIVES(RW_OK, rw_metadata_add(block, cap, &used, "b", 1, "", 0));
    GIVES(RW_OK, rw_metadata_add(block, cap, &used, "trace", 5, "0123456789abcdef", 16));
    return used;
}

static void has_metadata(const void *block, size_t len)
{
    const void *value = block;
    size_t value_len = 99;
    GIVES(RW_OK, rw_metadata_find(block, len, "user-id", 7, &value, &value_len));
    HOLDS(value_len == 7 && memcmp(value, "\0binary", 7) == 0);
    GIVES(RW_OK, rw_metadata_find(block, len, "trace", 5, &value, &value_len));
    HOLDS(value_len == 16 && memcmp(value, "0123456789abcdef", 16) == 0);
    GIVES(RW_OK, rw_metadata_find(block, len, "b", 1, &value, &value_len));
    HOLDS(value_len == 0);
    GIVES(RW_AGAIN, rw_metadata_find(block, len, "c", 1, &value, &value_len));
}

static void blocks(void)
{
    char block[256], long_name[256];
    const void *value;
    size_t used = metadata(block, sizeof block), before = used, len;
    has_metadata(block, used);
    /* An entry that does not fit changes nothing. */
    GIVES(RW_E_FULL, rw_metadata_add(block, used, &used, "more", 4, "x", 1));
    HOLDS(used == before);
    has_metadata(block, used);
    memset(long_name, 'n', sizeof long_name);
    GIVES(RW_E_INVALID, rw_metadata_add(block, sizeof block, &used, long_name, 256, "x", 1));
    GIVES(RW_E_INVALID, rw_metadata_add(block, sizeof block, &used, "", 0, "x", 1));
    used = sizeof block + 1;
    GIVES(RW_E_INVALID, rw_metadata_add(block, sizeof block, &used, "more", 4, "x", 1));
    GIVES(RW_E_INVALID, rw_metadata_find("not a block", 11, "a", 1, &value, &len));
    GIVES(RW_AGAIN, rw_metadata_find(NULL, 0, "a", 1, &value, &len));
}

static void served(void)
{
    rw_method method[2] = {{"Say", 3, RW_KIND_UNARY, 0, RW_CODEC_RAW, 1, {0, 0, 0, 0, 0, 0}},
                           {"Say", 3, RW_KIND_UNARY, 0, RW_CODEC_RAW, 0, {0, 0, 0, 0, 0, 0}}};
    rw_listener listener;
    char text[128];
    size_t len;
    uint32_t number;
    uint64_t id, other;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    /* What does not fit together is told when it is added, and the rest stands. */
    GIVES(RW_E_REFUSED, rw_service_add(engine, "demo.Echo", 9, method, 2, &first));
    GIVES(RW_OK, rw_service_add(engine, "demo.Other", 10, method, 1, &number));
    GIVES(RW_OK, rw_service_add(engine, "demo.Echo", 9, method, 1, &first));
    HOLDS(number == 0 && first == 1);
    GIVES(RW_E_REFUSED, rw_service_add(engine, "demo.Echo", 9, method, 1, &number));
    method[1].kind = 9;
    GIVES(RW_E_INVALID, rw_service_add(engine, "demo.Streams", 12, &method[1], 1, &number));
    GIVES(RW_E_INVALID, rw_service_add(engine, "demo.None", 9, method, 0, &number));

    GIVES(RW_OK, rw_serve(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_E_STATE, rw_service_add(engine, "demo.Late", 9, method, 1, &number));
    GIVES(RW_OK, rw_listener_address(engine, listener, text, sizeof text, &len));
    GIVES(RW_OK, rw_channel_open(engine, text, len, &channel));
    GIVES(RW_AGAIN, rw_channel_ready(engine, channel, 0));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
    GIVES(RW_OK, rw_method_bind(engine, channel, SAY, strlen(SAY), RW_KIND_UNARY, 0, 0, &say));
    GIVES(RW_OK, rw_method_id(SAY, strlen(SAY), &id));
    GIVES(RW_OK, rw_method_id("demo.Other/Say", 14, &other));
    HOLDS(id != other);
}

/* Everything that a call is made with arrives. */
static void details(void)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_request_details info;
    rw_event event;
    rw_call_id call;
    char block[256];
    const void *none;
    size_t len;
    options.metadata = block;
    options.metadata_len = metadata(block, sizeof block);
    options.timeout_ns = 60000000000;
    options.priority = 1;
    options.flags = RW_CALL_IDEMPOTENT;
    GIVES(RW_OK, rw_call(engine, channel, say, &options, "hello", 5, 77, &call));
    /* They were read during the call. */
    memset(block, 0xff, sizeof block);
    event = next(engine, RW_EV_REQUEST);
    HOLDS(event.method == first && event.len == 5 && memcmp(event.data, "hello", 5) == 0);
    GIVES(RW_OK, rw_request_info(engine, event.id, &info));
    has_metadata(info.metadata, info.metadata_len);
    HOLDS(info.timeout_ns > 0 && info.timeout_ns <= 60000000000);
    HOLDS(info.priority == 1 && info.attempt == 0 && info.idempotent == 1);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_reply(engine, event.id, "answer", 6));
    GIVES(RW_E_STALE, rw_reply(engine, event.id, "answer", 6));
    GIVES(RW_E_STALE, rw_request_info(engine, event.id, &info));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.user == 77 && event.len == 6 && memcmp(event.data, "answer", 6) == 0);
    /* This answer has neither text nor metadata. */
    GIVES(RW_OK, rw_answer_text(engine, event.lease, NULL, 0, &len));
    HOLDS(len == 0);
    GIVES(RW_OK, rw_answer_metadata(engine, event.lease, &none, &len));
    HOLDS(len == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_E_STALE, rw_answer_text(engine, event.lease, NULL, 0, &len));
    GIVES(RW_E_STALE, rw_answer_metadata(engine, event.lease, &none, &len));

    /* Without any of it. */
    GIVES(RW_OK, rw_call(engine, channel, say, NULL, NULL, 0, 0, &call));
    event = next(engine, RW_EV_REQUEST);
    GIVES(RW_OK, rw_request_info(engine, event.id, &info));
    HOLDS(info.metadata_len == 0 && info.timeout_ns == -1 && info.priority == 4 && info.idempotent == 0);
    if (event.lease != 0)
        GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_reply(engine, event.id, NULL, 0));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.id == call && event.status == RW_CODE_OK && event.len == 0);
    if (event.lease != 0)
        GIVES(RW_OK, rw_release(engine, event.lease));
}

static uint64_t copies(void)
{
    rw_stats stats = RW_STATS_INIT;
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    return stats.copies;
}

/* There and back in leases of this length; how many copies that took. */
static uint64_t leased(size_t len)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_event request, response;
    rw_call_id call;
    rw_buf room;
    uint64_t before = copies();
    GIVES(RW_OK, rw_lease_new(engine, len, &room));
    memset(room.data, 'q', len);
    options.lease = room.lease;
    GIVES(RW_E_INVALID, rw_call(engine, channel, say, &options, "x", 1, 0, &call));
    GIVES(RW_OK, rw_call(engine, channel, say, &options, NULL, 0, 0, &call));
    GIVES(RW_E_STATE, rw_lease_truncate(engine, room.lease, 1));
    GIVES(RW_OK, rw_release(engine, room.lease));
    request = next(engine, RW_EV_REQUEST);
    HOLDS(request.len == len && ((const char *)request.data)[len - 1] == 'q');
    GIVES(RW_E_STALE, rw_reply_lease(engine, request.id, room.lease));
    GIVES(RW_OK, rw_reply_lease(engine, request.id, request.lease));
    GIVES(RW_OK, rw_release(engine, request.lease));
    response = next(engine, RW_EV_RESPONSE);
    HOLDS(response.id == call && response.status == RW_CODE_OK && response.len == len);
    HOLDS(((const char *)response.data)[len - 1] == 'q');
    GIVES(RW_OK, rw_release(engine, response.lease));
    return copies() - before;
}

/* Usually; a message that straddles two receive slots costs one more. */
static uint64_t usually(size_t len)
{
    uint64_t least = UINT64_MAX;
    int at;
    for (at = 0; at < 20; at++) {
        uint64_t once = leased(len);
        least = once < least ? once : least;
    }
    return least;
}

/* Short leases are copied into the batch in both directions; from 4 KiB on answers go as they are, requests from where
 * they are announced on. */
static void leases(void)
{
    HOLDS(usually(64) == 2);
    HOLDS(usually(8192) == 1);
    HOLDS(leased(1000000) < 20);
}

/* Nobody answers a one-way call, and it has no event of its own. */
static void one_way(void)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_event event;
    rw_stats stats = RW_STATS_INIT;
    uint32_t count;
    GIVES(RW_OK, rw_call_one_way(engine, channel, say, NULL, "tell", 4));
    event = next(engine, RW_EV_REQUEST);
    HOLDS(event.len == 4 && memcmp(event.data, "tell", 4) == 0);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_reply(engine, event.id, "nobody", 6));
    GIVES(RW_AGAIN, rw_poll(engine, &event, 1, &count, 20000000));
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.calls == 0 && stats.requests == 0 && stats.leases == 0);
    options.flags = RW_CALL_STREAM;
    GIVES(RW_E_INVALID, rw_call_one_way(engine, channel, say, &options, "tell", 4));
    options.flags = 0;
    options.lease = 1;
    GIVES(RW_E_INVALID, rw_call_one_way(engine, channel, say, &options, NULL, 0));
}

/* A handler that never replies: both ends are told, and nothing of the call stays. */
static void never_answered(void)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_event event;
    rw_request request = 0;
    rw_stats stats = RW_STATS_INIT;
    rw_call_id call;
    uint32_t count, at;
    options.timeout_ns = 20000000;
    GIVES(RW_OK, rw_call(engine, channel, say, &options, "x", 1, 3, &call));
    event = next(engine, RW_EV_REQUEST);
    request = event.id;
    GIVES(RW_OK, rw_request_user(engine, request, 55));
    GIVES(RW_OK, rw_release(engine, event.lease));
    for (at = 0; at < 2; at++) {
        GIVES(RW_OK, rw_poll(engine, &event, 1, &count, -1));
        if (event.kind == RW_EV_CANCELLED) {
            HOLDS(event.id == request && event.user == 55);
        } else {
            HOLDS(event.kind == RW_EV_RESPONSE && event.id == call && event.status == RW_CODE_DEADLINE_EXCEEDED);
            GIVES(RW_OK, rw_release(engine, event.lease));
        }
    }
    GIVES(RW_E_STALE, rw_request_user(engine, request, 1));
    GIVES(RW_OK, rw_stats_read(engine, &stats));
    HOLDS(stats.calls == 0 && stats.requests == 0 && stats.leases == 0);
}

#define MANY 200

/* Whichever of many owed calls is given up, its server learns of it without any other traffic, once. */
static void given_up(void)
{
    rw_call_id call[MANY];
    rw_request request[MANY];
    rw_event event;
    uint32_t at, count;
    for (at = 0; at < MANY; at++)
        GIVES(RW_OK, rw_call(engine, channel, say, NULL, &at, sizeof at, at, &call[at]));
    for (at = 0; at < MANY; at++) {
        uint32_t number;
        event = next(engine, RW_EV_REQUEST);
        memcpy(&number, event.data, sizeof number);
        request[number] = event.id;
        GIVES(RW_OK, rw_request_user(engine, event.id, number));
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    /* From the last one on, so that none is found by chance. */
    for (at = MANY; at-- > 0;) {
        GIVES(RW_OK, rw_call_cancel(engine, call[at]));
        GIVES(RW_OK, rw_poll(engine, &event, 1, &count, 5000000000));
        HOLDS(event.kind == RW_EV_CANCELLED && event.user == at && event.id == request[at]);
        GIVES(RW_E_STALE, rw_reply(engine, request[at], "", 0));
    }
}

/* Who answers too late is refused, and is told of the end all the same. */
static void answered_too_late(void)
{
    rw_call_id call[MANY];
    rw_request request[MANY];
    rw_event event;
    rw_buf room;
    uint32_t at, count, refused = 0, told = 0;
    for (at = 0; at < MANY; at++)
        GIVES(RW_OK, rw_call(engine, channel, say, NULL, "x", 1, at, &call[at]));
    for (at = 0; at < MANY; at++) {
        event = next(engine, RW_EV_REQUEST);
        request[at] = event.id;
        GIVES(RW_OK, rw_release(engine, event.lease));
    }
    for (at = 0; at < MANY; at++)
        GIVES(RW_OK, rw_call_cancel(engine, call[at]));
    while (rw_poll(engine, &event, 1, &count, 0) != RW_OK)
        ;
    HOLDS(event.kind == RW_EV_CANCELLED);
    told++;
    GIVES(RW_OK, rw_lease_new(engine, 8, &room));
    for (at = 0; at < MANY; at++) {
        refused += rw_reply(engine, request[at], "late", 4) == RW_E_STALE;
        GIVES(RW_E_STALE, rw_reply_lease(engine, request[at], room.lease));
    }
    HOLDS(refused == MANY);
    /* Nothing was consumed: the lease can still be written. */
    GIVES(RW_OK, rw_lease_truncate(engine, room.lease, 4));
    GIVES(RW_OK, rw_release(engine, room.lease));
    while (told < MANY) {
        event = next(engine, RW_EV_CANCELLED);
        told++;
    }
    GIVES(RW_AGAIN, rw_poll(engine, &event, 1, &count, 10000000));
}

/* What no retry helps is not called "full". */
static void too_long(void)
{
    static char body[1 << 16];
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_call_id call;
    rw_event event;
    size_t used = 0;
    char *large = (char *)malloc((64u << 20) + 1);
    HOLDS(large != NULL);
    memset(large, 0, (64u << 20) + 1);
    GIVES(RW_E_TOO_LONG, rw_call(engine, channel, say, NULL, large, (64u << 20) + 1, 0, &call));
    GIVES(RW_E_TOO_LONG, rw_call_sync(engine, channel, say, NULL, large, (64u << 20) + 1, &event));
    GIVES(RW_E_TOO_LONG, rw_call_one_way(engine, channel, say, NULL, large, (64u << 20) + 1));
    free(large);
    GIVES(RW_OK, rw_metadata_add(body, sizeof body, &used, "large", 5, body, 40000));
    options.metadata = body;
    options.metadata_len = used;
    GIVES(RW_E_TOO_LONG, rw_call(engine, channel, say, &options, "x", 1, 0, &call));
}

/* A server that takes connections and never says a word. */
static rw_channel silent(uint32_t *method)
{
    struct sockaddr_in at;
    socklen_t at_len = sizeof at;
    rw_channel opened;
    char text[64];
    int len, listening = socket(AF_INET, SOCK_STREAM, 0);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    HOLDS(listening >= 0 && bind(listening, (struct sockaddr *)&at, sizeof at) == 0 && listen(listening, 8) == 0);
    HOLDS(getsockname(listening, (struct sockaddr *)&at, &at_len) == 0);
    len = sprintf(text, "tcp://127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    GIVES(RW_OK, rw_channel_open(engine, text, (size_t)len, &opened));
    GIVES(RW_OK, rw_method_bind(engine, opened, SAY, strlen(SAY), RW_KIND_UNARY, 0, 0, method));
    return opened;
}

/* Events that may wait when a call is waited for; as many timers can be set. */
#define MOST 65536

/* The timeout of a call that is waited for holds while connecting too. Other events stay for rw_poll meanwhile, but
 * not without a bound. */
static void waited_for(void)
{
    static rw_event events[4096];
    static char seen[MOST];
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_event event;
    rw_timer timer;
    uint32_t method, count;
    uint64_t at, set = 0, before, after;
    int32_t status;
    rw_channel nobody = silent(&method);
    options.timeout_ns = 20000000;
    GIVES(RW_OK, rw_now_ns(engine, &before));
    GIVES(RW_E_UNAVAILABLE, rw_call_sync(engine, nobody, method, &options, "x", 1, &event));
    GIVES(RW_OK, rw_now_ns(engine, &after));
    HOLDS(after - before >= 20000000 && after - before < 8000000000);

    GIVES(RW_OK, rw_channel_close(engine, nobody));

    /* However slowly these are set: only then comes a server that has a limited time for its hello. */
    while (set < MOST)
        GIVES(RW_OK, rw_timer_set(engine, 0, set++, &timer));
    nobody = silent(&method);
    do
        status = rw_channel_ready(engine, nobody, 0);
    while (status == RW_AGAIN);
    GIVES(RW_E_FULL, status);
    GIVES(RW_E_FULL, rw_call_sync(engine, nobody, method, &options, "x", 1, &event));
    for (at = 0; at < set;) {
        uint32_t each;
        GIVES(RW_OK, rw_poll(engine, events, 4096, &count, 0));
        for (each = 0; each < count; each++, at++)
            HOLDS(events[each].kind == RW_EV_TIMER && events[each].user < set && !seen[events[each].user]++);
    }
    GIVES(RW_OK, rw_channel_close(engine, nobody));

    /* One fewer do not keep anybody from waiting: more turns than it takes to fire them. */
    for (at = 0; at < MOST - 1; at++)
        GIVES(RW_OK, rw_timer_set(engine, 0, at, &timer));
    nobody = silent(&method);
    for (at = 0; at < MOST / 512; at++)
        GIVES(RW_AGAIN, rw_channel_ready(engine, nobody, 0));
    for (at = 0; at < MOST - 1; at += count)
        GIVES(RW_OK, rw_poll(engine, events, 4096, &count, 0));
    GIVES(RW_OK, rw_channel_close(engine, nobody));
}

static void forgotten(void)
{
    rw_event event;
    rw_call_id call;
    rw_channel nobody;
    uint32_t method;
    /* An open call is finished. */
    GIVES(RW_OK, rw_call(engine, channel, say, NULL, "x", 1, 8, &call));
    event = next(engine, RW_EV_REQUEST);
    GIVES(RW_OK, rw_release(engine, event.lease));
    GIVES(RW_OK, rw_channel_close(engine, channel));
    GIVES(RW_E_STALE, rw_channel_close(engine, channel));
    GIVES(RW_E_STALE, rw_call(engine, channel, say, NULL, "x", 1, 8, &call));
    GIVES(RW_OK, rw_reply(engine, event.id, "still", 5));
    event = next(engine, RW_EV_RESPONSE);
    HOLDS(event.user == 8 && event.status == RW_CODE_OK && event.len == 5);
    GIVES(RW_OK, rw_release(engine, event.lease));

    /* Nobody listens there: a call that is waited for ends with its reason. */
    GIVES(RW_OK, rw_channel_open(engine, "tcp://127.0.0.1:1", 17, &nobody));
    GIVES(RW_OK, rw_method_bind(engine, nobody, SAY, strlen(SAY), RW_KIND_UNARY, 0, 0, &method));
    GIVES(RW_E_UNAVAILABLE, rw_call(engine, nobody, method, NULL, "x", 1, 0, &call));
    GIVES(RW_E_UNAVAILABLE, rw_call_sync(engine, nobody, method, NULL, "x", 1, &event));
    GIVES(RW_E_UNAVAILABLE, rw_channel_ready(engine, nobody, -1));
}

int main(void)
{
    blocks();
    served();
    details();
    leases();
    one_way();
    never_answered();
    given_up();
    answered_too_late();
    too_long();
    waited_for();
    forgotten();
    GIVES(RW_OK, rw_engine_destroy(engine));
    return 0;
}
