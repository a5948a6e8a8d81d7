// Echo over messages: a server and a client on one engine.
//
//   echo [ADDRESS]            e.g. unix:///tmp/echo.sock or rudp://127.0.0.1:0
//
//   c++ -std=c++17 echo.cpp $(pkg-config --cflags --libs ringway) -o echo
#include <ringway.hpp>

#include <cstdio>

namespace {

constexpr std::uint32_t ROUNDS = 1000;

int fail(const char *what, const ringway::Error &error)
{
    std::fprintf(stderr, "%s: %s: %s\n", what, error.name(), error.text().c_str());
    return 1;
}

// Sends one message, written in the place it leaves from.
ringway::Result<void> say(ringway::Connection connection, std::uint32_t number)
{
    auto claim = connection.claim(sizeof number);
    if (!claim)
        return claim.error();
    std::memcpy(claim->room().data(), &number, sizeof number);
    return claim->commit();
}

} // namespace

int main(int argc, char **argv)
{
    auto engine = ringway::Engine::create();
    if (!engine)
        return fail("create", engine.error());
    auto listener = engine->listen(argc > 1 ? argv[1] : "tcp://127.0.0.1:0");
    if (!listener)
        return fail("listen", listener.error());
    auto address = listener->address();
    if (!address)
        return fail("address", address.error());
    auto client = engine->connect(*address);
    if (!client)
        return fail("connect", client.error());

    ringway::Events<16> events;
    for (std::uint32_t rounds = 0; rounds < ROUNDS;) {
        if (auto came = engine->poll(events, -1); !came)
            return fail("poll", came.error());
        for (const ringway::Event event : events) {
            ringway::Result<void> sent;
            if (event.kind() == RW_EV_OPENED && event.is(*client)) {
                sent = say(*client, 0);
            } else if (event.kind() == RW_EV_MESSAGE && event.is(*client)) {
                auto number = ringway::pod<std::uint32_t>(event.bytes());
                if (!number || *number != rounds) {
                    std::fprintf(stderr, "echo: not what was sent\n");
                    return 1;
                }
                sent = say(*client, ++rounds);
            } else if (event.kind() == RW_EV_MESSAGE) {
                // Sent from where it was received.
                sent = event.forward(event.connection());
            } else if (event.kind() == RW_EV_CLOSED) {
                std::fprintf(stderr, "closed: %s\n", std::string(ringway::text(event.bytes())).c_str());
                return 1;
            }
            if (!sent)
                return fail("send", sent.error());
        }
    }
    std::printf("%u round trips over %s\n", static_cast<unsigned>(ROUNDS), address->c_str());
    return 0;
}
