/* A client of the key-value service (examples/services/proto/kv.proto), e.g. of `ringway serve --service kv`, or of
 * kv_server.c: `kv_client ADDRESS`.
 *
 *   cc -std=c99 kv_client.c $(pkg-config --cflags --libs ringway) -o kv_client
 */
#include "kv.h"

static rw_engine engine;
static rw_channel channel;

/* The number of a method; 0 on an error, which is told. */
static int bound(const char *name, uint32_t kind, uint32_t *method)
{
    int32_t status =
        rw_method_bind(engine, channel, name, strlen(name), kind, RW_CODEC_PROTOBUF, 0, method);
    if (status != RW_OK)
        fail(name, status);
    return status == RW_OK;
}

static struct out pair(const char *key, const char *value)
{
    struct out out = {{0}, 0, 0};
    put_bytes(&out, 1, text_of(key));
    if (value != NULL)
        put_bytes(&out, 2, text_of(value));
    return out;
}

/* One message each way: waits for the answer. */
static int called(uint32_t method, struct out request, rw_event *response)
{
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    int32_t status;
    options.timeout_ns = 5000000000;
    status = rw_call_sync(engine, channel, method, &options, request.data, request.len, response);
    if (status != RW_OK)
        fail("call", status);
    return status == RW_OK;
}

/* Says what a key holds; the value is read where it was received. */
static int show(uint32_t get, const char *key)
{
    rw_event response;
    struct text body, value, bytes;
    uint64_t number, revision = 0;
    unsigned field;
    if (!called(get, pair(key, NULL), &response))
        return 0;
    if (response.status != RW_CODE_OK) {
        char said[128];
        size_t len = 0;
        rw_answer_text(engine, response.lease, said, sizeof said, &len);
        len = len < sizeof said ? len : sizeof said;
        printf("%s: %s (%.*s)\n", key, rw_code_name((uint32_t)response.status), (int)len, said);
    } else {
        body.data = response.data;
        body.len = (size_t)response.len;
        value = text_of("");
        while (take_field(&body, &field, &bytes, &number)) {
            if (field == 1)
                value = bytes;
            if (field == 2)
                revision = number;
        }
        printf("%s is %.*s since revision %u\n", key, (int)value.len, (const char *)value.data, (unsigned)revision);
    }
    if (response.lease != 0)
        rw_release(engine, response.lease);
    return 1;
}

/* The client streams; one answer says how many came. */
static int load(uint32_t method)
{
    static const char *const all[3][2] = {{"fruit/banana", "yellow"}, {"fruit/cherry", "black"}, {"fruit/lime", "green"}};
    rw_call_options options = RW_CALL_OPTIONS_INIT;
    rw_call_id call;
    int32_t status;
    unsigned at = 0;
    options.flags = RW_CALL_STREAM;
    options.timeout_ns = 5000000000;
    if ((status = rw_call(engine, channel, method, &options, NULL, 0, 0, &call)) != RW_OK)
        return fail("load", status), 0;
    for (;;) {
        rw_event event;
        uint32_t count;
        /* As far as the server takes it; then an event says that there is room again. */
        while (at < 3) {
            struct out message = pair(all[at][0], all[at][1]);
            status = rw_stream_send(engine, call, message.data, message.len, at == 2);
            if (status == RW_AGAIN)
                break;
            if (status != RW_OK)
                return fail("stream", status), 0;
            at++;
        }
        if ((status = rw_poll(engine, &event, 1, &count, -1)) != RW_OK)
            return fail("poll", status), 0;
        if (event.kind == RW_EV_RESPONSE) {
            struct text body, bytes;
            uint64_t number, loaded = 0;
            unsigned field;
            body.data = event.data;
            body.len = (size_t)event.len;
            while (take_field(&body, &field, &bytes, &number))
                if (field == 1)
                    loaded = number;
            printf("loaded %u: %s\n", (unsigned)loaded, rw_code_name((uint32_t)event.status));
        }
        if (event.lease != 0)
            rw_release(engine, event.lease);
        if (event.kind == RW_EV_RESPONSE)
            return 1;
    }
}

int main(int argc, char **argv)
{
    uint32_t get, put, loads;
    rw_event response;
    int32_t status;
    if (argc != 2) {
        fprintf(stderr, "usage: kv_client ADDRESS\n");
        return 2;
    }
    if ((status = rw_engine_create(NULL, &engine)) != RW_OK)
        return fail("create", status);
    if ((status = rw_channel_open(engine, argv[1], strlen(argv[1]), &channel)) != RW_OK)
        return fail("connect", status);
    if (!bound("kv.KeyValue/Get", RW_KIND_UNARY, &get) || !bound("kv.KeyValue/Put", RW_KIND_UNARY, &put) ||
        !bound("kv.KeyValue/Load", RW_KIND_CLIENT_STREAM, &loads))
        return 1;
    if (!called(put, pair("fruit/apple", "red"), &response))
        return 1;
    printf("put: %s\n", rw_code_name((uint32_t)response.status));
    if (response.lease != 0)
        rw_release(engine, response.lease);
    if (!show(get, "fruit/apple") || !show(get, "fruit/pear") || !load(loads) || !show(get, "fruit/lime"))
        return 1;
    return rw_engine_destroy(engine) == RW_OK ? 0 : 1;
}
