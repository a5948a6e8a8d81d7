/* Echo over messages: a server and a client on one engine, or one of them.
 *
 *   echo                      both, over tcp on a port that the kernel chooses
 *   echo ADDRESS              both, over ADDRESS, e.g. unix:///tmp/echo.sock or rudp://127.0.0.1:0
 *
 *   cc -std=c99 echo.c $(pkg-config --cflags --libs ringway) -o echo
 */
#include <ringway.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 1000

static int fail(const char *what, int32_t status)
{
    char text[256];
    size_t len = 0;
    rw_last_error(text, sizeof text, &len);
    if (len > sizeof text)
        len = sizeof text;
    fprintf(stderr, "%s: %s: %.*s\n", what, rw_status_name(status), (int)len, text);
    return 1;
}

/* Sends one message, written in the place it leaves from. */
static int32_t say(rw_engine engine, rw_connection connection, uint32_t number)
{
    rw_buf room;
    int32_t status = rw_claim(engine, connection, sizeof number, &room);
    if (status != RW_OK)
        return status;
    memcpy(room.data, &number, sizeof number);
    return rw_commit(engine, sizeof number);
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "tcp://127.0.0.1:0";
    rw_engine_config config = RW_ENGINE_CONFIG_INIT;
    rw_engine engine;
    rw_listener listener;
    rw_connection client = 0;
    char bound[128];
    size_t len;
    uint32_t rounds = 0;
    int32_t status;

    if ((status = rw_engine_create(&config, &engine)) != RW_OK)
        return fail("create", status);
    if ((status = rw_listen(engine, address, strlen(address), &listener)) != RW_OK)
        return fail("listen", status);
    if ((status = rw_listener_address(engine, listener, bound, sizeof bound, &len)) != RW_OK)
        return fail("address", status);
    if ((status = rw_connect(engine, bound, len, &client)) != RW_OK)
        return fail("connect", status);

    while (rounds < ROUNDS) {
        rw_event events[16];
        uint32_t count, at;
        status = rw_poll(engine, events, 16, &count, 5000000000);
        if (status != RW_OK)
            return fail("poll", status);
        for (at = 0; at < count; at++) {
            const rw_event *event = &events[at];
            switch (event->kind) {
            case RW_EV_OPENED:
                if (event->id == client && (status = say(engine, client, 0)) != RW_OK)
                    return fail("send", status);
                break;
            case RW_EV_MESSAGE:
                if (event->id == client) {
                    uint32_t number;
                    memcpy(&number, event->data, sizeof number);
                    if (event->len != sizeof number || number != rounds) {
                        fprintf(stderr, "echo: not what was sent\n");
                        return 1;
                    }
                    rounds++;
                    status = say(engine, client, rounds);
                } else {
                    /* Sent from where it was received. */
                    status = rw_send_lease(engine, event->id, event->lease);
                }
                if (status != RW_OK)
                    return fail("send", status);
                rw_release(engine, event->lease);
                break;
            case RW_EV_CLOSED:
                fprintf(stderr, "closed: %.*s\n", (int)event->len, (const char *)event->data);
                return 1;
            default:
                break;
            }
        }
    }
    printf("%u round trips over %.*s\n", (unsigned)rounds, (int)len, bound);
    return rw_engine_destroy(engine) == RW_OK ? 0 : 1;
}
