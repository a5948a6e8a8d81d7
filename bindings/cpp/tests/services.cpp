// Services by functions: streams, answers kept for later, requests that are let go, what is no struct.
#include "check.hpp"

#include <memory>
#include <string>

using namespace ringway;

struct Pair {
    std::uint32_t a;
    std::uint32_t b;
};

static Events<16> events;

// The response to a call, and how many stream messages came before it.
static Response ended(Engine &engine, const Call &call, std::string *streamed = nullptr)
{
    for (;;) {
        GOOD(engine.poll(events, -1));
        for (const Event event : events) {
            HOLDS(event.kind() != RW_EV_REQUEST && event.kind() != RW_EV_REQUEST_MESSAGE);
            if (event.id() != call.id())
                continue;
            if (event.kind() == RW_EV_STREAM_MESSAGE && streamed != nullptr)
                *streamed += text(event.bytes());
            if (event.kind() == RW_EV_RESPONSE)
                return Response(event);
        }
    }
}

int main()
{
    auto alive = std::make_shared<int>(0);
    std::weak_ptr<int> watched = alive;
    {
        Engine first = GOOD(Engine::create());
        Service service("demo.All");
        Engine *inside = nullptr;
        Engine **engine_of = &inside;
        service.pod<Pair, Pair>("Swap", [alive](const Pair &pair) -> Answer<Pair> {
            ++*alive;
            if (pair.a == pair.b)
                return {RW_CODE_FAILED_PRECONDITION, "they are the same"};
            return Pair{pair.b, pair.a};
        });
        service.unary("Drop", [](Request, const Event &) {});
        service.unary("Poll", [engine_of](Request request, const Event &) {
            Events<1> own;
            GOOD(request.reply(bytes((*engine_of)->poll(own, 0).error().name())));
            HOLDS(!request && request.reply(bytes("twice")).status() < 0);
        });
        auto kept = std::make_shared<Request>();
        service.unary("Later", [kept](Request request, const Event &) { *kept = std::move(request); });
        service.stream("Sum", RW_KIND_BIDI, [alive](Request request, const Event &) {
            auto owned = std::make_shared<Request>(std::move(request));
            return StreamHandler([owned = std::move(owned), alive, all = std::string()](const Event &event) mutable {
                if (event.kind() == RW_EV_REQUEST_MESSAGE) {
                    all += text(event.bytes());
                    GOOD(owned->send(bytes(all)));
                } else if (event.kind() == RW_EV_REQUEST_END) {
                    GOOD(owned->end());
                }
            });
        });
        alive.reset();
        GOOD(first.add(std::move(service)));
        Engine engine = std::move(first);
        inside = &engine;
        Listener listener = GOOD(engine.serve("tcp://127.0.0.1:0"));
        Service late("demo.Late");
        late.unary("X", [](Request, const Event &) {});
        HOLDS(engine.add(std::move(late)).status() == RW_E_STATE);
        Channel channel = GOOD(engine.channel(GOOD(listener.address())));
        GOOD(channel.ready(-1));

        auto swap = GOOD((channel.bind_pod<Pair, Pair>("demo.All/Swap")));
        Response answer = ended(engine, GOOD(channel.call(swap, Pair{1, 2})));
        const Pair pair = GOOD(pod<Pair>(answer.bytes()));
        HOLDS(answer.ok() && pair.a == 2 && pair.b == 1 && *watched.lock() == 1);
        answer = ended(engine, GOOD(channel.call(swap, Pair{3, 3})));
        HOLDS(answer.code() == RW_CODE_FAILED_PRECONDITION && GOOD(answer.text()) == "they are the same");
        answer = ended(engine, GOOD(channel.call(swap.number, bytes("short"))));
        HOLDS(answer.code() == RW_CODE_INVALID_ARGUMENT && *watched.lock() == 2);

        const std::uint32_t drop = GOOD(channel.bind("demo.All/Drop"));
        answer = ended(engine, GOOD(channel.call(drop, bytes("x"))));
        HOLDS(answer.code() == RW_CODE_INTERNAL && std::string(answer.code_name()) == "INTERNAL");
        const std::uint32_t poll = GOOD(channel.bind("demo.All/Poll"));
        answer = ended(engine, GOOD(channel.call(poll, bytes("x"))));
        HOLDS(answer.ok() && text(answer.bytes()) == "RW_E_STATE");

        const std::uint32_t later = GOOD(channel.bind("demo.All/Later"));
        Call waiting = GOOD(channel.call(later, bytes("x")));
        while (!*kept)
            GOOD(engine.poll(events, -1));
        Metadata metadata;
        for (int at = 0; at < 40; ++at)
            GOOD(metadata.add("name" + std::to_string(at), bytes("some value")));
        GOOD(kept->metadata(metadata.block()));
        GOOD(kept->reply(bytes("now")));
        answer = ended(engine, waiting);
        HOLDS(text(answer.bytes()) == "now");
        const Bytes block = GOOD(answer.metadata());
        HOLDS(text(GOOD(metadata_find(block, "name39"))) == "some value" && metadata_find(block, "x").error().again());
        HOLDS(waiting.cancel().status() == RW_E_STALE && !waiting);

        const std::uint32_t sum = GOOD(channel.bind("demo.All/Sum", RW_KIND_BIDI));
        CallOptions streams;
        streams.flags = RW_CALL_STREAM;
        Call call = GOOD(channel.call(sum, bytes("a"), streams));
        GOOD(call.send(bytes("b")));
        GOOD(call.send(bytes("c"), true));
        HOLDS(call.send(bytes("d")).status() == RW_E_STALE);
        std::string streamed;
        HOLDS(ended(engine, call, &streamed).ok() && streamed == "aababc");
        // The functions of the service; the stream's own is gone with its call.
        HOLDS(watched.use_count() == 2);
        // A call that its owner lets go of is cancelled, and so its stream ends there.
        {
            Call dropped = GOOD(channel.call(sum, bytes("a"), streams));
            while (watched.use_count() != 3)
                GOOD(engine.poll(events, -1));
        }
        while (watched.use_count() != 2)
            GOOD(engine.poll(events, -1));
        answer = Response(ended(engine, GOOD(channel.call(swap, Pair{1, 2}))));
        events.clear();
        HOLDS(figures(engine).leases == 1 && figures(engine).requests == 0 && figures(engine).calls == 0);
    }
    HOLDS(watched.expired());
    return 0;
}
