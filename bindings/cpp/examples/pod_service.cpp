// A service of plain structs and its client, each with an engine on a thread of its own.
//
//   c++ -std=c++17 pod_service.cpp $(pkg-config --cflags --libs ringway) -pthread -o pod_service
#include <ringway.hpp>

#include <atomic>
#include <cstdio>
#include <future>
#include <map>
#include <string>
#include <thread>

namespace {

struct Key {
    std::uint64_t number;
};

struct Entry {
    std::uint64_t number;
    std::int64_t value;
};

int fail(const char *what, const ringway::Error &error)
{
    std::fprintf(stderr, "%s: %s: %s\n", what, error.name(), error.text().c_str());
    return 1;
}

struct Started {
    std::string address;
    rw_engine engine;
};

// Serves until it is woken with `stop`.
int serve(std::promise<Started> started, const std::atomic<bool> &stop)
{
    auto engine = ringway::Engine::create();
    if (!engine)
        return fail("create", engine.error());
    auto table = std::make_shared<std::map<std::uint64_t, std::int64_t>>();
    ringway::Service service("demo.Table");
    service.pod<Entry, Entry>("Put", [table](const Entry &entry) -> ringway::Answer<Entry> {
        (*table)[entry.number] = entry.value;
        return entry;
    });
    service.pod<Key, Entry>("Get", [table](const Key &key) -> ringway::Answer<Entry> {
        const auto found = table->find(key.number);
        if (found == table->end())
            return {RW_CODE_NOT_FOUND, "no such number"};
        return Entry{key.number, found->second};
    });
    if (auto added = engine->add(std::move(service)); !added)
        return fail("add", added.error());
    auto listener = engine->serve("tcp://127.0.0.1:0");
    if (!listener)
        return fail("serve", listener.error());
    auto address = listener->address();
    if (!address)
        return fail("address", address.error());
    started.set_value({*address, engine->id()});
    ringway::Events<> events;
    while (!stop.load()) {
        if (auto came = engine->poll(events, -1); !came)
            return fail("poll", came.error());
    }
    return 0;
}

int call(const std::string &address)
{
    auto engine = ringway::Engine::create();
    if (!engine)
        return fail("create", engine.error());
    auto channel = engine->channel(address);
    if (!channel)
        return fail("channel", channel.error());
    auto put = channel->bind_pod<Entry, Entry>("demo.Table/Put");
    auto get = channel->bind_pod<Key, Entry>("demo.Table/Get");
    if (!put || !get)
        return fail("bind", put ? get.error() : put.error());

    if (auto done = channel->call_sync(*put, Entry{7, 42}); !done)
        return fail("Put", done.error());
    auto found = channel->call_sync(*get, Key{7});
    if (!found)
        return fail("Get", found.error());
    std::printf("cpp: %lld\n", static_cast<long long>(found->value().value));
    auto missing = channel->call_sync(*get, Key{8});
    if (!missing)
        return fail("Get", missing.error());
    std::printf("8: %s, %s\n", rw_code_name(missing->code()), missing->text().c_str());
    return found->ok() && missing->code() == RW_CODE_NOT_FOUND ? 0 : 1;
}

} // namespace

int main()
{
    std::atomic<bool> stop{false};
    std::promise<Started> started;
    auto server = started.get_future();
    int served = 1;
    std::thread thread([&, started = std::move(started)]() mutable { served = serve(std::move(started), stop); });
    int called = 1;
    if (server.wait(), thread.joinable()) {
        const Started at = server.get();
        called = call(at.address);
        stop.store(true);
        if (auto woken = ringway::Waker(at.engine).wake(); !woken)
            called = fail("wake", woken.error());
    }
    thread.join();
    return called != 0 ? called : served;
}
