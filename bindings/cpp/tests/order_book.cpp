// Plain structs of a service in Rust, typed, by a header that ringway-build made of its source. `order_book ADDRESS` calls
// the service; `order_book` is the service: it says its address, and ends with its standard input.
#include "check.hpp"

#include <market.h>

#include <atomic>
#include <string>
#include <thread>

// They have floating-point fields; the header's assertions leave no room for padding.
template <> inline constexpr bool ringway::has_no_padding<trade_Order> = true;
template <> inline constexpr bool ringway::has_no_padding<trade_Fill> = true;

static std::uint64_t sum_of(const trade_Order &order)
{
    std::uint64_t sum = order.price;
    for (const auto &row : order.levels)
        for (const std::uint16_t level : row)
            sum += level;
    return sum;
}

static void call(std::string_view address)
{
    auto engine = GOOD(ringway::Engine::create());
    auto channel = GOOD(engine.channel(address));
    GOOD(channel.ready(-1));
    auto submit = GOOD((channel.bind_pod<trade_Order, trade_Fill>(TRADE_ORDER_BOOK_SUBMIT_ORDER,
                                                                  TRADE_ORDER_BOOK_SUBMIT_ORDER_SCHEMA)));
    trade_Order order{};
    order.price = 1000;
    order.sides[1].change = -1.5F;
    order.sides[1].lots = -7;
    order.levels[3][1] = 40000;
    order.owner[11] = 'x';
    order.type = -3;
    auto answer = GOOD(channel.call_sync(submit, order));
    HOLDS(answer.ok() && answer.value().sum == 41000);
    HOLDS(std::memcmp(&answer.value().order, &order, sizeof order) == 0);
    // A message of nothing.
    auto reset = GOOD(channel.bind(TRADE_ORDER_BOOK_RESET, TRADE_ORDER_BOOK_RESET_KIND, TRADE_ORDER_BOOK_RESET_CODEC,
                                   TRADE_ORDER_BOOK_RESET_SCHEMA));
    HOLDS(GOOD(channel.call_sync(reset, ringway::Bytes{})).ok());

    // Ends whose structs differ refuse each other.
    auto engine_of_other = GOOD(ringway::Engine::create());
    auto other = GOOD(engine_of_other.channel(address));
    GOOD(other.ready(-1));
    auto wrong = GOOD((other.bind_pod<trade_Order, trade_Fill>(TRADE_ORDER_BOOK_SUBMIT_ORDER,
                                                               TRADE_ORDER_BOOK_SUBMIT_ORDER_SCHEMA ^ 1)));
    auto refused = other.call_sync(wrong, order);
    HOLDS(!refused || !refused->ok());
}

static void serve()
{
    auto engine = GOOD(ringway::Engine::create());
    ringway::Service service(TRADE_ORDER_BOOK);
    service.pod<trade_Order, trade_Fill>(
        TRADE_ORDER_BOOK_SUBMIT_ORDER_METHOD,
        [](const trade_Order &order) -> ringway::Answer<trade_Fill> {
            if (order.price == 0)
                return {RW_CODE_INVALID_ARGUMENT, "a price of nothing"};
            return trade_Fill{sum_of(order), order};
        },
        TRADE_ORDER_BOOK_SUBMIT_ORDER_SCHEMA);
    GOOD(engine.add(std::move(service)));
    auto listener = GOOD(engine.serve("tcp://127.0.0.1:0"));
    std::printf("%s\n", GOOD(listener.address()).c_str());
    std::fflush(stdout);
    std::atomic<bool> over{false};
    std::thread input([&over, waker = engine.waker()] {
        while (std::getchar() != EOF)
            continue;
        over.store(true);
        GOOD(waker.wake());
    });
    ringway::Events<> events;
    while (!over.load())
        GOOD(engine.poll(events, -1));
    input.join();
}

int main(int argc, char **argv)
{
    if (argc == 2)
        call(argv[1]);
    else
        serve();
    return 0;
}
