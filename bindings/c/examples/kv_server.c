/* The key-value service (examples/services/proto/kv.proto) served in C: Get, Put, Delete and Load, in one thread, until
 * standard input ends. `kv_server [ADDRESS]`; it says where it listens.
 *
 *   cc -std=c99 kv_server.c $(pkg-config --cflags --libs ringway) -o kv_server
 */
#include "kv.h"
#include <poll.h>
#include <unistd.h>

#define KEYS_MAX 1024

struct entry {
    unsigned char *key, *value;
    size_t key_len, value_len;
    uint64_t revision;
};

/* A client's stream of pairs: how many came so far. Its address goes along with its request. */
struct load {
    uint64_t count;
};

static rw_engine engine;
static uint32_t first;
static struct entry entries[KEYS_MAX];
static size_t count;
static uint64_t revision;

enum { GET, PUT, DELETE, LOAD };

static struct entry *found(struct text key)
{
    size_t at;
    for (at = 0; at < count; at++)
        if (entries[at].key_len == key.len && memcmp(entries[at].key, key.data, key.len) == 0)
            return &entries[at];
    return NULL;
}

static unsigned char *copied(struct text of)
{
    unsigned char *copy = malloc(of.len + 1);
    if (copy != NULL)
        memcpy(copy, of.data, of.len);
    return copy;
}

static void removed(struct entry *entry)
{
    free(entry->key);
    free(entry->value);
    *entry = entries[--count];
}

/* The key and value of a request; 0 if it is malformed. */
static int parsed(struct text body, struct text *key, struct text *value)
{
    struct text bytes;
    uint64_t number;
    unsigned field;
    *key = text_of("");
    *value = text_of("");
    while (body.len > 0) {
        if (!take_field(&body, &field, &bytes, &number))
            return 0;
        if (field == 1 && bytes.data != NULL)
            *key = bytes;
        if (field == 2 && bytes.data != NULL)
            *value = bytes;
    }
    return 1;
}

/* Stores a pair; what went wrong, as a code for the client. */
static uint32_t stored(struct text body)
{
    struct text key, value;
    struct entry *entry, fresh;
    if (!parsed(body, &key, &value) || key.len == 0)
        return RW_CODE_INVALID_ARGUMENT;
    entry = found(key);
    if (entry == NULL && count == KEYS_MAX)
        return RW_CODE_RESOURCE_EXHAUSTED;
    fresh.key = copied(key);
    fresh.value = copied(value);
    fresh.key_len = key.len;
    fresh.value_len = value.len;
    fresh.revision = revision + 1;
    if (fresh.key == NULL || fresh.value == NULL) {
        free(fresh.key);
        free(fresh.value);
        return RW_CODE_RESOURCE_EXHAUSTED;
    }
    if (entry != NULL)
        removed(entry);
    entries[count++] = fresh;
    revision++;
    return RW_CODE_OK;
}

static void refused(rw_request request, uint32_t code)
{
    const char *text = code == RW_CODE_NOT_FOUND ? "there is no such key" : "the request can't be served";
    rw_reply_error(engine, request, code, text, strlen(text));
}

static void answered(const rw_event *event)
{
    struct text body, key, value;
    struct out out = {{0}, 0, 0};
    struct entry *entry;
    uint32_t code;
    body.data = event->data;
    body.len = (size_t)event->len;
    switch (event->method - first) {
    case GET:
        entry = parsed(body, &key, &value) ? found(key) : NULL;
        if (entry == NULL) {
            refused(event->id, RW_CODE_NOT_FOUND);
            return;
        }
        value.data = entry->value;
        value.len = entry->value_len;
        put_bytes(&out, 1, value);
        put_field(&out, 2, entry->revision);
        if (out.full) {
            refused(event->id, RW_CODE_RESOURCE_EXHAUSTED);
            return;
        }
        break;
    case PUT:
        if ((code = stored(body)) != RW_CODE_OK) {
            refused(event->id, code);
            return;
        }
        put_field(&out, 1, revision);
        break;
    case DELETE:
        entry = parsed(body, &key, &value) ? found(key) : NULL;
        if (entry == NULL) {
            refused(event->id, RW_CODE_NOT_FOUND);
            return;
        }
        removed(entry);
        put_field(&out, 1, ++revision);
        break;
    default: {
        /* A stream begins: its messages and its end are events of their own, which bring this back. */
        struct load *load = calloc(1, sizeof *load);
        if (load == NULL)
            refused(event->id, RW_CODE_RESOURCE_EXHAUSTED);
        else if (rw_request_user(engine, event->id, (uint64_t)(uintptr_t)load) != RW_OK)
            free(load);
        return;
    }
    }
    rw_reply(engine, event->id, out.data, out.len);
}

static void handled(const rw_event *event)
{
    struct load *load = (struct load *)(uintptr_t)event->user;
    struct out out = {{0}, 0, 0};
    struct text body;
    switch (event->kind) {
    case RW_EV_REQUEST:
        answered(event);
        break;
    case RW_EV_REQUEST_MESSAGE:
        body.data = event->data;
        body.len = (size_t)event->len;
        if (load != NULL && stored(body) == RW_CODE_OK)
            load->count++;
        break;
    case RW_EV_REQUEST_END:
        if (load == NULL)
            break;
        put_field(&out, 1, load->count);
        put_field(&out, 2, revision);
        /* If nobody waits any more, RW_EV_CANCELLED frees it. */
        if (rw_reply(engine, event->id, out.data, out.len) == RW_OK)
            free(load);
        break;
    case RW_EV_CANCELLED:
        free(load);
        break;
    default:
        break;
    }
    if (event->lease != 0)
        rw_release(engine, event->lease);
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "tcp://127.0.0.1:0";
    static const rw_method methods[4] = {
        {"Get", 3, RW_KIND_UNARY, 0, RW_CODEC_PROTOBUF, 1, {0, 0, 0, 0, 0, 0}},
        {"Put", 3, RW_KIND_UNARY, 0, RW_CODEC_PROTOBUF, 1, {0, 0, 0, 0, 0, 0}},
        {"Delete", 6, RW_KIND_UNARY, 0, RW_CODEC_PROTOBUF, 0, {0, 0, 0, 0, 0, 0}},
        {"Load", 4, RW_KIND_CLIENT_STREAM, 0, RW_CODEC_PROTOBUF, 0, {0, 0, 0, 0, 0, 0}}};
    struct pollfd watched[2];
    rw_listener listener;
    rw_event events[64];
    char bound[128];
    size_t len;
    uint32_t got, at;
    int32_t status, fd;
    if ((status = rw_engine_create(NULL, &engine)) != RW_OK)
        return fail("create", status);
    if ((status = rw_service_add(engine, "kv.KeyValue", 11, methods, 4, &first)) != RW_OK)
        return fail("service", status);
    if ((status = rw_serve(engine, address, strlen(address), &listener)) != RW_OK)
        return fail("serve", status);
    if ((status = rw_listener_address(engine, listener, bound, sizeof bound, &len)) != RW_OK)
        return fail("address", status);
    if ((status = rw_event_fd(engine, &fd)) != RW_OK)
        return fail("event_fd", status);
    printf("%.*s\n", (int)len, bound);
    fflush(stdout);
    watched[0].fd = fd;
    watched[1].fd = STDIN_FILENO;
    watched[0].events = watched[1].events = POLLIN;
    watched[1].revents = 0;
    for (;;) {
        do {
            while ((status = rw_poll(engine, events, 64, &got, 0)) == RW_OK)
                for (at = 0; at < got; at++)
                    handled(&events[at]);
            if (status != RW_AGAIN)
                return fail("poll", status);
        } while ((status = rw_event_arm(engine)) == RW_AGAIN);
        if (status != RW_OK)
            return fail("arm", status);
        poll(watched, 2, -1);
        if (watched[1].revents != 0) {
            char byte;
            if (read(STDIN_FILENO, &byte, 1) <= 0)
                break;
        }
    }
    while (count > 0)
        removed(&entries[0]);
    return rw_engine_destroy(engine) == RW_OK ? 0 : 1;
}
