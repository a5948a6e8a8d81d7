/* Plain structs of a service in Rust, by a header that ringway-build made of its source: `market ADDRESS`. C and C++. */
#include "check.h"
#include "market.h"

int main(int argc, char **argv)
{
    rw_engine engine;
    rw_channel channel;
    uint32_t submit, reset, other;
    trade_Order order;
    trade_Fill fill;
    rw_event response;
    int32_t status;
    HOLDS(argc == 2);
    HOLDS(TRADE_ORDER_BOOK_SUBMIT_ORDER_IDEMPOTENT == 1 && TRADE_ORDER_BOOK_RESET_IDEMPOTENT == 0);
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_channel_open(engine, argv[1], strlen(argv[1]), &channel));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
    GIVES(RW_OK, rw_method_bind(engine, channel, TRADE_ORDER_BOOK_SUBMIT_ORDER, TRADE_ORDER_BOOK_SUBMIT_ORDER_LEN,
                                TRADE_ORDER_BOOK_SUBMIT_ORDER_KIND, TRADE_ORDER_BOOK_SUBMIT_ORDER_CODEC,
                                TRADE_ORDER_BOOK_SUBMIT_ORDER_SCHEMA, &submit));
    GIVES(RW_OK, rw_method_bind(engine, channel, TRADE_ORDER_BOOK_RESET, TRADE_ORDER_BOOK_RESET_LEN,
                                TRADE_ORDER_BOOK_RESET_KIND, TRADE_ORDER_BOOK_RESET_CODEC, TRADE_ORDER_BOOK_RESET_SCHEMA,
                                &reset));
    memset(&order, 0, sizeof order);
    order.price = 1000;
    order.sides[1].ratio = 0.5;
    order.sides[1].change = -1.5f;
    order.sides[1].lots = -7;
    order.sides[1].is_buy = 1;
    order.levels[3][1] = 40000;
    order.levels[0][0] = 2;
    order.owner[11] = 'x';
    order.type = -3;
    GIVES(RW_OK, rw_call_sync(engine, channel, submit, NULL, &order, sizeof order, &response));
    HOLDS(response.status == RW_CODE_OK && response.len == sizeof fill);
    memcpy(&fill, response.data, sizeof fill);
    HOLDS(fill.sum == 41002 && memcmp(&fill.order, &order, sizeof order) == 0);
    GIVES(RW_OK, rw_release(engine, response.lease));
    GIVES(RW_OK, rw_call_sync(engine, channel, reset, NULL, NULL, 0, &response));
    HOLDS(response.status == RW_CODE_OK && response.len == 0);
    if (response.lease != 0)
        GIVES(RW_OK, rw_release(engine, response.lease));
    GIVES(RW_OK, rw_engine_destroy(engine));

    /* Ends whose structs differ refuse each other. */
    GIVES(RW_OK, rw_engine_create(NULL, &engine));
    GIVES(RW_OK, rw_channel_open(engine, argv[1], strlen(argv[1]), &channel));
    GIVES(RW_OK, rw_channel_ready(engine, channel, -1));
    GIVES(RW_OK, rw_method_bind(engine, channel, TRADE_ORDER_BOOK_SUBMIT_ORDER, TRADE_ORDER_BOOK_SUBMIT_ORDER_LEN,
                                TRADE_ORDER_BOOK_SUBMIT_ORDER_KIND, TRADE_ORDER_BOOK_SUBMIT_ORDER_CODEC,
                                TRADE_ORDER_BOOK_SUBMIT_ORDER_SCHEMA ^ 1, &other));
    status = rw_call_sync(engine, channel, other, NULL, &order, sizeof order, &response);
    HOLDS(status == RW_E_REFUSED || (status == RW_OK && response.status != RW_CODE_OK));
    GIVES(RW_OK, rw_engine_destroy(engine));
    return 0;
}
