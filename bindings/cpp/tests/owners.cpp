// Owners give back once: after moves, early releases, and the end of their engine.
#include "check.hpp"

#include <string>
#include <type_traits>
#include <vector>

using namespace ringway;

template <class T> constexpr bool moves_only = std::is_move_constructible_v<T> && !std::is_copy_constructible_v<T>;
static_assert(moves_only<Engine> && moves_only<Lease> && moves_only<LeaseRoom> && moves_only<Claim>, "owners");
static_assert(moves_only<Call> && moves_only<Request> && moves_only<Response> && moves_only<Channel>, "owners");
static_assert(moves_only<Listener> && moves_only<Timer> && moves_only<Detached>, "owners");
static_assert(std::is_trivially_copyable_v<Connection> && std::is_trivially_copyable_v<Waker>, "numbers");
static_assert(!std::is_move_constructible_v<Events<4>> && !std::is_copy_constructible_v<Events<4>>, "held in place");
static_assert(std::is_constructible_v<Bytes, std::vector<std::byte> &>, "a vector is bytes");
static_assert(!std::is_constructible_v<Room, const std::vector<std::byte> &>, "const is not room");
struct Padded {
    std::uint8_t a;
    std::uint32_t b;
};
static_assert(!has_no_padding<Padded>, "padding is seen");

static void leases(Engine &engine)
{
    LeaseRoom written = GOOD(engine.lease(5));
    std::memcpy(written.room().data(), "hello", 5);
    HOLDS(figures(engine).leases == 1 && text(written.bytes()) == "hello");
    LeaseRoom moved = std::move(written);
    HOLDS(!written && written.id() == 0 && written.bytes().empty() && written.room().empty());
    HOLDS(written.release().status() < 0 && written.detach().status() < 0);
    HOLDS(figures(engine).leases == 1 && text(moved.bytes()) == "hello");
    GOOD(moved.release());
    HOLDS(figures(engine).leases == 0 && !moved);
    HOLDS(moved.release().status() == RW_E_INVALID || moved.release().status() == RW_E_STALE);
    // Assigning over one gives it back.
    Lease kept = GOOD(engine.lease(1));
    kept = GOOD(engine.lease(2));
    HOLDS(figures(engine).leases == 1 && kept.bytes().size() == 2);
    // Given back behind its back: told, and owned no more.
    HOLDS(rw_release(engine.id(), kept.id()) == RW_OK);
    const Result<void> late = kept.release();
    HOLDS(!late && late.status() == RW_E_STALE && std::string(late.error().name()) == "RW_E_STALE");
    HOLDS(!late.error().text().empty() && !kept);
}

static void refused(Engine &engine)
{
    Result<Listener> listener = engine.listen("nonsense");
    HOLDS(!listener && listener.status() == RW_E_ADDRESS && !listener.error().text().empty());
    Connection none;
    HOLDS(none.send(bytes("x")).status() < 0 && none.claim(1).status() < 0 && none.close().status() < 0);
    HOLDS(pod<std::uint32_t>(bytes("abc")).status() == RW_E_INVALID);
    Engine moved = std::move(engine);
    Events<2> events;
    HOLDS(engine.id() == 0 && engine.lease(1).status() < 0 && engine.add(Service("a.B")).status() < 0);
    HOLDS(engine.poll(events, 0).status() < 0 && events.begin() == events.end());
    engine = std::move(moved);
    const Result<bool> nothing = engine.poll(events, 0);
    HOLDS(nothing && !*nothing);
}

// Claims, and leases of events that nobody took.
static void messages(Engine &engine)
{
    Listener listener = GOOD(engine.listen("tcp://127.0.0.1:0"));
    const Connection client = GOOD(engine.connect(GOOD(listener.address())));
    Events<8> events;
    unsigned came = 0;
    Lease taken;
    while (came < 2) {
        GOOD(engine.poll(events, -1));
        for (const Event event : events) {
            if (event.kind() == RW_EV_OPENED && event.is(client)) {
                {
                    Claim claim = GOOD(client.claim(3));
                    Claim moved = std::move(claim);
                    HOLDS(claim.room().empty() && claim.commit().status() < 0);
                    HOLDS(client.send(bytes("x")).status() == RW_E_BUSY);
                }
                // The claim took itself back.
                GOOD(client.send(bytes("one")));
                Claim claim = GOOD(client.claim(9));
                std::memcpy(claim.room().data(), "two", 3);
                GOOD(claim.commit(3));
                HOLDS(claim.commit().status() < 0);
            } else if (event.kind() == RW_EV_MESSAGE) {
                HOLDS(text(event.bytes()) == (came == 0 ? "one" : "two"));
                if (came++ == 0) {
                    taken = event.take();
                    HOLDS(taken && !event.take());
                }
            }
        }
    }
    HOLDS(figures(engine).leases == 2);
    events.clear();
    HOLDS(figures(engine).leases == 1 && text(taken.bytes()) == "one");
    Detached detached = GOOD(taken.detach());
    HOLDS(!taken && figures(engine).leases == 0);
    Detached moved = std::move(detached);
    HOLDS(detached.id() == 0 && detached.bytes().empty() && text(moved.bytes()) == "one");
    HOLDS(text(GOOD(engine.attach(moved)).bytes()) == "one");
    HOLDS(figures(engine).leases == 0);
}

// What outlives its engine is over, and does no harm to the next one.
static void outlived()
{
    Lease lease;
    Timer timer;
    Listener listener;
    {
        Engine engine = GOOD(Engine::create());
        lease = GOOD(engine.lease(1));
        timer = GOOD(engine.timer(1000, 1));
        listener = GOOD(engine.listen("tcp://127.0.0.1:0"));
    }
    Engine next = GOOD(Engine::create());
    const Lease its = GOOD(next.lease(1));
    HOLDS(lease.release().status() == RW_E_STALE && timer.cancel().status() == RW_E_STALE);
    HOLDS(listener.address().status() == RW_E_STALE && figures(next).leases == 1);
}

int main()
{
    Engine engine = GOOD(Engine::create());
    leases(engine);
    refused(engine);
    messages(engine);
    outlived();
    return 0;
}
