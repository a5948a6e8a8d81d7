/* Tables are bounded; what is closed makes room again. */
#include "check.h"

static const char ADDRESS[] = "tcp://127.0.0.1:0";
/* Nobody listens there. */
static const char NOWHERE[] = "tcp://127.0.0.1:1";

static rw_engine engine;

static void listeners(void)
{
    rw_listener listener = 0;
    rw_event event;
    uint32_t open = 0, count;
    int32_t status;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    while ((status = rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener)) == RW_OK)
        open++;
    GIVES(RW_E_LIMIT, status);
    HOLDS(open == 64);
    /* One that is closed makes room, but is remembered for a minute: so many are too many too. */
    do {
        GIVES(RW_OK, rw_unlisten(engine, listener));
        GIVES(RW_AGAIN, rw_poll(engine, &event, 1, &count, 0));
        status = rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener);
        open += status == RW_OK;
    } while (status == RW_OK);
    GIVES(RW_E_LIMIT, status);
    HOLDS(open == 4096);
    GIVES(RW_OK, rw_engine_destroy(engine));
}

static void channels(void)
{
    rw_channel channel = 0, more;
    rw_event event;
    uint32_t open = 0, count;
    int32_t status;
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    while ((status = rw_channel_open(engine, NOWHERE, strlen(NOWHERE), &more)) == RW_OK) {
        channel = more;
        open++;
    }
    GIVES(RW_E_LIMIT, status);
    HOLDS(open == 1024);
    GIVES(RW_OK, rw_channel_close(engine, channel));
    while ((status = rw_channel_open(engine, NOWHERE, strlen(NOWHERE), &more)) == RW_E_LIMIT)
        GIVES(RW_AGAIN, rw_poll(engine, &event, 1, &count, 1000000));
    GIVES(RW_OK, status);
    GIVES(RW_OK, rw_engine_destroy(engine));
}

/* Services of one engine, few: each is checked with those before it. */
#define EACH 16

/* Names are kept for the life of the process: each once, and not without an end. */
static void services(void)
{
    rw_method method = {"Say", 3, RW_KIND_UNARY, 0, RW_CODEC_RAW, 0, {0, 0, 0, 0, 0, 0}};
    int32_t status = RW_OK;
    uint32_t added = 0, twice, first;
    while (status == RW_OK && added < 10000) {
        for (twice = 0; twice < (added == 0 ? 2u : 1u); twice++) {
            uint32_t at;
            GIVES(RW_OK, rw_engine_create(NULL, &engine));
            for (at = 0; at < EACH; at++) {
                char name[32];
                int len = sprintf(name, "demo.S%u", (unsigned)(added + at));
                status = rw_service_add(engine, name, (size_t)len, &method, 1, &first);
                if (status != RW_OK)
                    break;
                HOLDS(first == at);
            }
            GIVES(RW_OK, rw_engine_destroy(engine));
        }
        if (status == RW_OK)
            added += EACH;
    }
    GIVES(RW_E_LIMIT, status);
    HOLDS(added == 4096);
}

/* Memory that is being sent, and bytes that left their engine. */
static void lent_and_detached(void)
{
    static unsigned char memory[4096];
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_listener listener;
    rw_connection client;
    rw_event event;
    static rw_detached detached[65536];
    rw_buf buf, more;
    char bound[128];
    size_t len;
    uint32_t count = 0;
    int32_t status;
    config.queue_bytes_max = (uint64_t)1 << 30;
    GIVES(RW_OK, rw_engine_create(&config, &engine));
    GIVES(RW_OK, rw_listen(engine, ADDRESS, strlen(ADDRESS), &listener));
    GIVES(RW_OK, rw_listener_address(engine, listener, bound, sizeof bound, &len));
    GIVES(RW_OK, rw_connect(engine, bound, len, &client));
    while (next(engine, RW_EV_OPENED).id != client)
        continue;
    while ((status = rw_send_ref(engine, client, memory, sizeof memory, 0)) == RW_OK)
        count++;
    GIVES(RW_E_LIMIT, status);
    HOLDS(count == 65536);
    /* What came back makes room again. */
    next(engine, RW_EV_SENT);
    GIVES(RW_OK, rw_send_ref(engine, client, memory, sizeof memory, 0));
    event = next(engine, RW_EV_MESSAGE);
    for (count = 0; (status = rw_detach(engine, event.lease, &buf)) == RW_OK && count < 65536; count++) {
        detached[count] = buf.lease;
        GIVES(RW_OK, rw_attach(engine, buf.lease, &more));
        event.lease = more.lease;
    }
    GIVES(RW_E_LIMIT, status);
    HOLDS(count == 65536);
    /* Nothing was consumed. */
    GIVES(RW_OK, rw_lease_data(engine, event.lease, &more));
    GIVES(RW_OK, rw_detached_release(detached[0]));
    GIVES(RW_OK, rw_detach(engine, event.lease, &buf));
    detached[0] = buf.lease;
    GIVES(RW_OK, rw_engine_destroy(engine));
    while (count > 0)
        GIVES(RW_OK, rw_detached_release(detached[--count]));
}

int main(void)
{
    listeners();
    channels();
    services();
    lent_and_detached();
    return 0;
}
