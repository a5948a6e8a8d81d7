// ringway for C++17: owners, results and typed calls over the C ABI of <ringway.h>, in this one header.
//
// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The rules of <ringway.h> hold here too. What this header adds:
//
// - Results. What can fail returns a Result: a value, or an Error with the status, its name, and the text with cause and
//   fix. Nothing throws but allocation of the standard library; it builds with -fno-exceptions. An error allocates its text.
// - Ownership. Engine, Listener, Lease, Claim, Detached, Channel, Call, Request, Response and Timer can be moved and not copied;
//   the destructor gives back what they own, once. One that was moved from owns nothing, and answers RW_E_STALE or
//   RW_E_INVALID. Connection and Waker are numbers: they can be copied, own nothing and close nothing.
// - Lifetime. Things name their engine by its number, not by a pointer: they may outlive the Engine, and an Engine may
//   be moved while they live. After its end they answer RW_E_STALE and their destructors do nothing. Bytes don't: a Bytes
//   is valid as long as its Lease, Response or Event's place in Events, and not beyond the engine. Detached outlives all.
// - Thread. An engine and its things belong to the thread that created it; that holds for destructors as well: on
//   another thread they give nothing back, and it stays taken until the engine ends. Waker and Detached: any thread.
//   An Engine destroyed on another thread stays until the process ends.
// - Handlers of a Service are owned by the Engine they were added to, and run inside its poll only. They must not throw
//   (that ends the process) nor destroy their engine; polling it from there answers RW_E_STATE.
//
// What has no face here (rw_threads_*, rw_pause, rw_stats_read, ...) is called as in C, with the number of id().
#ifndef RINGWAY_HPP
#define RINGWAY_HPP

#include <ringway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

static_assert(RW_ABI_MAJOR == 0, "ringway.hpp and ringway.h belong to one release");

namespace ringway {

// ------------------------------------------------------------------- spans

// Some values in a row that somebody else owns; what std::span is from C++20 on.
template <class T> class Span {
public:
    constexpr Span() noexcept = default;
    constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    // From an array, a vector, another span: whatever has data() and size() of this type.
    template <class C, class = std::enable_if_t<std::is_convertible_v<
                           std::remove_pointer_t<decltype(std::declval<C &>().data())> (*)[], T (*)[]>>>
    constexpr Span(C &of) noexcept : data_(of.data()), size_(of.size())
    {
    }
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    // `at` has to be below size().
    constexpr T &operator[](std::size_t at) const noexcept { return data_[at]; }
    // From `from` on, at most `count`; empty if there is nothing.
    constexpr Span part(std::size_t from, std::size_t count = SIZE_MAX) const noexcept
    {
        if (from >= size_)
            return {};
        return {data_ + from, count < size_ - from ? count : size_ - from};
    }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

using Bytes = Span<const std::byte>;
using Room = Span<std::byte>;

inline Bytes bytes(std::string_view text) noexcept
{
    return {reinterpret_cast<const std::byte *>(text.data()), text.size()};
}
inline Bytes bytes(const void *data, std::size_t len) noexcept
{
    return {static_cast<const std::byte *>(data), len};
}
inline std::string_view text(Bytes bytes) noexcept
{
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

// ----------------------------------------------------------------- results

// Why something did not go well. A status of RW_AGAIN is no failure: not now.
class Error {
public:
    // Of a function of this thread that just returned `status`: takes rw_last_error along.
    static Error last(std::int32_t status)
    {
        if (status == RW_AGAIN)
            return {status, {}};
        std::string text(256, '\0');
        std::size_t len = 0;
        rw_last_error(text.data(), text.size(), &len);
        if (len > text.size()) {
            text.resize(len);
            rw_last_error(text.data(), text.size(), &len);
        }
        text.resize(len < text.size() ? len : text.size());
        return {status, std::move(text)};
    }
    Error(std::int32_t status, std::string text) : status_(status), text_(std::move(text)) {}
    std::int32_t status() const noexcept { return status_; }
    bool again() const noexcept { return status_ == RW_AGAIN; }
    // "RW_E_STALE"
    const char *name() const noexcept { return rw_status_name(status_); }
    // Cause and fix, for people.
    const std::string &text() const noexcept { return text_; }

private:
    std::int32_t status_;
    std::string text_;
};

// A value or an Error. The value must only be read where ok() holds, error() only where it does not.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : is_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : is_(std::in_place_index<1>, std::move(error)) {}
    bool ok() const noexcept { return is_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    T &operator*() noexcept { return *std::get_if<0>(&is_); }
    const T &operator*() const noexcept { return *std::get_if<0>(&is_); }
    T *operator->() noexcept { return std::get_if<0>(&is_); }
    const T *operator->() const noexcept { return std::get_if<0>(&is_); }
    const Error &error() const noexcept { return *std::get_if<1>(&is_); }
    // RW_OK, or the error's.
    std::int32_t status() const noexcept { return ok() ? RW_OK : error().status(); }

private:
    std::variant<T, Error> is_;
};

template <> class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : is_(std::move(error)) {}
    bool ok() const noexcept { return is_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    const Error &error() const noexcept { return *std::get_if<1>(&is_); }
    std::int32_t status() const noexcept { return ok() ? RW_OK : error().status(); }

private:
    std::variant<std::monostate, Error> is_;
};

namespace detail {

inline Result<void> done(std::int32_t status)
{
    if (status == RW_OK)
        return {};
    return Error::last(status);
}

// A text that `copy(to, cap, len)` gives.
template <class Copy> Result<std::string> told(Copy copy)
{
    std::string text(128, '\0');
    for (;;) {
        std::size_t len = 0;
        if (std::int32_t status = copy(text.data(), text.size(), &len); status != RW_OK)
            return Error::last(status);
        const bool whole = len <= text.size();
        text.resize(len);
        if (whole)
            return text;
    }
}

// A number of an engine that is given back by `End`, once.
template <std::int32_t (*End)(rw_engine, std::uint64_t)> class Owned {
public:
    Owned() noexcept = default;
    Owned(rw_engine engine, std::uint64_t id) noexcept : engine_(engine), id_(id) {}
    Owned(Owned &&from) noexcept : engine_(from.engine_), id_(std::exchange(from.id_, 0)) {}
    Owned &operator=(Owned &&from) noexcept
    {
        if (this != &from) {
            drop();
            engine_ = from.engine_;
            id_ = std::exchange(from.id_, 0);
        }
        return *this;
    }
    ~Owned() { drop(); }
    // 0: owns nothing.
    std::uint64_t id() const noexcept { return id_; }
    rw_engine engine() const noexcept { return engine_; }
    explicit operator bool() const noexcept { return id_ != 0; }
    // Gives the number away: from now on it is the caller's, who goes on as in C.
    std::uint64_t leave() noexcept { return std::exchange(id_, 0); }

protected:
    void drop() noexcept
    {
        if (id_ != 0)
            End(engine_, std::exchange(id_, 0));
    }
    // Ends it now, and tells how that went; it stays owned if that was refused.
    Result<void> ended()
    {
        const std::int32_t status = End(engine_, id_);
        if (status == RW_OK || status == RW_E_STALE)
            id_ = 0;
        return done(status);
    }

private:
    rw_engine engine_ = 0;
    std::uint64_t id_ = 0;
};

// Detached bytes are the process's: no engine takes them back.
inline std::int32_t release_detached(rw_engine, rw_detached id) noexcept { return rw_detached_release(id); }

// A function that can be moved only; std::function wants copies.
template <class... Arguments> class Handler {
    struct Any {
        virtual ~Any() = default;
        virtual void run(Arguments... arguments) noexcept = 0;
    };
    template <class F> struct Of final : Any {
        explicit Of(F &&function) : function(std::move(function)) {}
        void run(Arguments... arguments) noexcept override { function(std::forward<Arguments>(arguments)...); }
        F function;
    };

public:
    Handler() = default;
    template <class F, class = std::enable_if_t<!std::is_same_v<F, Handler> && !std::is_reference_v<F>>>
    Handler(F &&function) : any_(std::make_unique<Of<F>>(std::move(function)))
    {
    }
    void operator()(Arguments... arguments) noexcept { any_->run(std::forward<Arguments>(arguments)...); }
    explicit operator bool() const noexcept { return any_ != nullptr; }

private:
    std::unique_ptr<Any> any_;
};

} // namespace detail

// --------------------------------------------------------------- plain structs

// Says that a struct has no padding, where the compiler can't tell because it has floating-point fields:
// `template <> inline constexpr bool ringway::has_no_padding<Quote> = true;`
template <class T> inline constexpr bool has_no_padding = std::has_unique_object_representations_v<T>;

// What a typed message has to be: padding would send what memory held before.
template <class T> constexpr void require_pod() noexcept
{
    static_assert(std::is_trivially_copyable_v<T>, "a Pod message has to be trivially copyable");
    static_assert(std::is_standard_layout_v<T>, "a Pod message has to have standard layout");
    static_assert(!std::is_pointer_v<T> && !std::is_reference_v<T>, "addresses mean nothing on the other side");
    static_assert(has_no_padding<T>, "a Pod message must not have padding; see ringway::has_no_padding");
}

template <class T> Bytes pod_bytes(const T &value) noexcept
{
    require_pod<T>();
    return bytes(&value, sizeof value);
}

// Copies a struct out of bytes, which may lie anywhere. RW_E_INVALID: they have another length.
template <class T> Result<T> pod(Bytes bytes)
{
    require_pod<T>();
    static_assert(std::is_default_constructible_v<T>, "a Pod message has to have a default");
    if (bytes.size() != sizeof(T))
        return Error(RW_E_INVALID, "the message has " + std::to_string(bytes.size()) + " bytes, the struct " +
                                       std::to_string(sizeof(T)) + "; both sides need the same definition");
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

// ------------------------------------------------------------------ metadata

// Names and values that travel with a call.
class Metadata {
public:
    // Errors as rw_metadata_add, but for RW_E_FULL, which comes above 1 MiB.
    Result<void> add(std::string_view name, Bytes value)
    {
        for (;;) {
            const std::int32_t status = rw_metadata_add(block_.data(), block_.size(), &used_, name.data(), name.size(),
                                                        value.data(), value.size());
            if (status != RW_E_FULL || block_.size() >= 1U << 20)
                return detail::done(status);
            block_.resize(block_.size() * 2);
        }
    }
    Bytes block() const noexcept { return {block_.data(), used_}; }

private:
    std::vector<std::byte> block_ = std::vector<std::byte>(256);
    std::size_t used_ = 0;
};

// A name's first value inside a block; its error's again() tells that there is none.
inline Result<Bytes> metadata_find(Bytes block, std::string_view name)
{
    const void *value = nullptr;
    std::size_t len = 0;
    const std::int32_t status =
        rw_metadata_find(block.data(), block.size(), name.data(), name.size(), &value, &len);
    if (status != RW_OK)
        return Error::last(status);
    return bytes(value, len);
}

// --------------------------------------------------------------------- bytes

// Bytes that left their engine. Any thread. Released by the destructor.
class Detached : public detail::Owned<detail::release_detached> {
public:
    Detached(rw_detached id, Bytes bytes) noexcept : Owned(0, id), bytes_(bytes) {}
    // Empty once moved from.
    Bytes bytes() const noexcept { return id() != 0 ? bytes_ : Bytes{}; }

private:
    Bytes bytes_;
};

// Bytes of an engine: received, or to be written and sent. Released by the destructor.
class Lease : public detail::Owned<rw_release> {
public:
    Lease() noexcept = default;
    Lease(rw_engine engine, rw_lease id, Bytes bytes) noexcept : Owned(engine, id), bytes_(bytes) {}
    // Empty once the lease was moved from.
    Bytes bytes() const noexcept { return id() != 0 ? bytes_ : Bytes{}; }
    // Ends it before the destructor does.
    Result<void> release() { return ended(); }
    // Takes the bytes out of the engine. The lease is over, if that went well.
    Result<Detached> detach()
    {
        rw_buf buf;
        if (std::int32_t status = rw_detach(engine(), id(), &buf); status != RW_OK)
            return Error::last(status);
        leave();
        return Detached(buf.lease, ringway::bytes(buf.data, buf.len));
    }

private:
    Bytes bytes_;
};

// A lease that you write, before it is sent the first time.
class LeaseRoom : public Lease {
public:
    LeaseRoom(rw_engine engine, rw_lease id, Room room) noexcept : Lease(engine, id, Bytes(room)), room_(room) {}
    // Must not be written any more once sending it was tried. Empty once moved from.
    Room room() const noexcept { return id() != 0 ? room_ : Room{}; }

private:
    Room room_;
};

// Room in a connection's batch, to be written in place. Taken back by the destructor, if it is not committed; until
// then nearly everything of the engine answers RW_E_BUSY.
class Claim {
public:
    Claim(rw_engine engine, Room room) noexcept : engine_(engine), room_(room) {}
    Claim(Claim &&from) noexcept : engine_(std::exchange(from.engine_, 0)), room_(std::exchange(from.room_, {})) {}
    Claim &operator=(Claim &&) = delete;
    ~Claim()
    {
        if (engine_ != 0)
            rw_abort(engine_);
    }
    Room room() const noexcept { return room_; }
    // Sends the first `len` bytes; all of them, if there are fewer.
    Result<void> commit(std::size_t len = SIZE_MAX)
    {
        return over(rw_commit(engine_, len < room_.size() ? len : room_.size()));
    }
    Result<void> commit_as(std::size_t len, std::uint8_t kind, std::uint8_t flags, std::uint16_t tag, std::uint64_t word)
    {
        return over(rw_commit_as(engine_, len < room_.size() ? len : room_.size(), kind, flags, tag, word));
    }

private:
    Result<void> over(std::int32_t status)
    {
        if (status == RW_OK) {
            engine_ = 0;
            room_ = {};
        }
        return detail::done(status);
    }
    rw_engine engine_;
    Room room_;
};

// -------------------------------------------------------------------- messages

// A connection's number; it is closed by close(), the peer, or the engine's end, and not by a destructor.
class Connection {
public:
    Connection() noexcept = default;
    Connection(rw_engine engine, rw_connection id) noexcept : engine_(engine), id_(id) {}
    rw_connection id() const noexcept { return id_; }
    friend bool operator==(Connection a, Connection b) noexcept { return a.engine_ == b.engine_ && a.id_ == b.id_; }
    friend bool operator!=(Connection a, Connection b) noexcept { return !(a == b); }
    // Sends a copy.
    Result<void> send(Bytes bytes) const { return detail::done(rw_send(engine_, id_, bytes.data(), bytes.size())); }
    // Sends without a copy; the lease stays yours.
    Result<void> send(const Lease &lease) const { return detail::done(rw_send_lease(engine_, id_, lease.id())); }
    // Sends your memory without a copy: leave it as it is until RW_EV_SENT with `user`, or the engine's end.
    Result<void> send_ref(Bytes bytes, std::uint64_t user) const
    {
        return detail::done(rw_send_ref(engine_, id_, bytes.data(), bytes.size(), user));
    }
    template <class T> Result<void> send_pod(const T &value) const { return send(pod_bytes(value)); }
    Result<Claim> claim(std::size_t len) const
    {
        rw_buf buf;
        if (std::int32_t status = rw_claim(engine_, id_, len, &buf); status != RW_OK)
            return Error::last(status);
        return Claim(engine_, Room(static_cast<std::byte *>(buf.data), buf.len));
    }
    Result<void> close(std::uint16_t code = 0) const { return detail::done(rw_close(engine_, id_, code)); }
    Result<void> drain() const { return detail::done(rw_drain(engine_, id_)); }
    Result<std::string> peer() const
    {
        return detail::told([this](char *to, std::size_t cap, std::size_t *len) {
            return rw_peer_address(engine_, id_, to, cap, len);
        });
    }

private:
    rw_engine engine_ = 0;
    rw_connection id_ = 0;
};

// Something that listens, until the destructor. What it accepted lives on.
class Listener : public detail::Owned<rw_unlisten> {
public:
    using Owned::Owned;
    // With the port that the kernel chose.
    Result<std::string> address() const
    {
        return detail::told([this](char *to, std::size_t cap, std::size_t *len) {
            return rw_listener_address(engine(), id(), to, cap, len);
        });
    }
    Result<void> close() { return ended(); }
};

// A timer that is set; cancelled by the destructor.
class Timer : public detail::Owned<rw_timer_cancel> {
public:
    using Owned::Owned;
    Result<void> cancel() { return ended(); }
};

// Any thread, at any time.
class Waker {
public:
    explicit Waker(rw_engine engine) noexcept : engine_(engine) {}
    Result<void> wake() const { return detail::done(rw_wake(engine_)); }

private:
    rw_engine engine_;
};

// An event's place in Events, where its bytes are valid. `raw()` tells all that <ringway.h> says of its kind.
class Event {
public:
    Event(rw_engine engine, rw_event *at) noexcept : engine_(engine), at_(at) {}
    const rw_event &raw() const noexcept { return *at_; }
    std::uint32_t kind() const noexcept { return at_->kind; }
    std::uint64_t id() const noexcept { return at_->id; }
    std::uint64_t user() const noexcept { return at_->user; }
    std::int32_t status() const noexcept { return at_->status; }
    // Until the Events are polled into again or end; take the lease to keep them.
    Bytes bytes() const noexcept { return ringway::bytes(at_->data, at_->data != nullptr ? at_->len : 0); }
    // Whose number id() is, where it is a connection's.
    Connection connection() const noexcept { return {engine_, at_->id}; }
    bool is(Connection connection) const noexcept { return connection == this->connection(); }
    // The lease is yours from here on; the second time there is none. bytes() stays as it is.
    Lease take() const noexcept
    {
        if (at_->lease == 0)
            return {};
        return {engine_, std::exchange(at_->lease, 0), bytes()};
    }
    // Sends the bytes of a received message on, from where they are.
    Result<void> forward(Connection to) const { return detail::done(rw_send_lease(engine_, to.id(), at_->lease)); }

private:
    rw_engine engine_;
    rw_event *at_;
};

// What a poll brought, as a range of Event; room for `Count`. Leases that nobody took are released with the next poll
// into it, or its end. Belongs to the thread of the engine.
template <std::size_t Count = 64> class Events {
    static_assert(Count > 0 && Count <= UINT32_MAX, "rw_poll wants room for at least one");

public:
    class Iterator {
    public:
        Iterator(rw_engine engine, rw_event *at, rw_event *end) noexcept : engine_(engine), at_(at), end_(end) { skip(); }
        Event operator*() const noexcept { return {engine_, at_}; }
        Iterator &operator++() noexcept
        {
            ++at_;
            skip();
            return *this;
        }
        bool operator!=(const Iterator &other) const noexcept { return at_ != other.at_; }
        bool operator==(const Iterator &other) const noexcept { return at_ == other.at_; }

    private:
        // A service of the engine had those.
        void skip() noexcept
        {
            while (at_ != end_ && at_->kind == 0)
                ++at_;
        }
        rw_engine engine_;
        rw_event *at_;
        rw_event *end_;
    };

    Events() noexcept = default;
    Events(const Events &) = delete;
    Events &operator=(const Events &) = delete;
    ~Events() { clear(); }
    Iterator begin() noexcept { return {engine_, events_, events_ + count_}; }
    Iterator end() noexcept { return {engine_, events_ + count_, events_ + count_}; }
    void clear() noexcept
    {
        for (std::uint32_t at = 0; at < count_; ++at)
            if (events_[at].lease != 0)
                rw_release(engine_, events_[at].lease);
        count_ = 0;
    }

private:
    friend class Engine;
    rw_engine engine_ = 0;
    std::uint32_t count_ = 0;
    rw_event events_[Count];
};

// --------------------------------------------------------------------- calling

// How a call is made; what rw_call_options says. Metadata is read during the call only.
struct CallOptions {
    std::int64_t timeout_ns = 0;
    std::uint32_t flags = 0;
    std::uint32_t priority = 4;
    Bytes metadata = {};

    rw_call_options raw() const noexcept
    {
        rw_call_options options = RW_CALL_OPTIONS_INIT;
        options.timeout_ns = timeout_ns;
        options.flags = flags;
        options.priority = priority;
        options.metadata = metadata.data();
        options.metadata_len = metadata.size();
        return options;
    }
};

// A call that is made; cancelled by the destructor, unless its RW_EV_RESPONSE was made. Its events carry its id().
class Call : public detail::Owned<rw_call_cancel> {
public:
    using Owned::Owned;
    // A message of a call with RW_CALL_STREAM; the error's again(): no room now.
    Result<void> send(Bytes bytes, bool end = false)
    {
        return detail::done(rw_stream_send(engine(), id(), bytes.data(), bytes.size(), end ? 1 : 0));
    }
    template <class T> Result<void> send_pod(const T &value, bool end = false) { return send(pod_bytes(value), end); }
    Result<void> end() { return detail::done(rw_stream_end(engine(), id())); }
    Result<void> cancel() { return ended(); }
};

// How a call ended. Owns the answer.
class Response {
public:
    // Of an RW_EV_RESPONSE, whose lease it takes.
    explicit Response(const Event &event) noexcept : code_(static_cast<std::uint32_t>(event.status())), lease_(event.take()) {}
    std::uint32_t code() const noexcept { return code_; }
    bool ok() const noexcept { return code_ == RW_CODE_OK; }
    // "NOT_FOUND"
    const char *code_name() const noexcept { return rw_code_name(code_); }
    // The answer, as long as this lives.
    Bytes bytes() const noexcept { return lease_.bytes(); }
    // Why it did not go well; empty if that was not told.
    Result<std::string> text() const
    {
        if (!lease_)
            return std::string();
        return detail::told([this](char *to, std::size_t cap, std::size_t *len) {
            return rw_answer_text(lease_.engine(), lease_.id(), to, cap, len);
        });
    }
    // For metadata_find; as long as this lives.
    Result<Bytes> metadata() const
    {
        const void *data = nullptr;
        std::size_t len = 0;
        if (!lease_)
            return Bytes();
        if (std::int32_t status = rw_answer_metadata(lease_.engine(), lease_.id(), &data, &len); status != RW_OK)
            return Error::last(status);
        return ringway::bytes(data, len);
    }
    // The lease, to keep or send on.
    Lease take() noexcept { return std::move(lease_); }

private:
    std::uint32_t code_;
    Lease lease_;
};

// How a typed call ended: with a value, or with a code other than RW_CODE_OK and its text.
template <class T> class Answer {
public:
    Answer(T value) : value_(std::move(value)) {}
    Answer(std::uint32_t code, std::string text) : code_(code), text_(std::move(text)) {}
    bool ok() const noexcept { return code_ == RW_CODE_OK; }
    std::uint32_t code() const noexcept { return code_; }
    const std::string &text() const noexcept { return text_; }
    // A default, unless ok().
    const T &value() const noexcept { return value_; }

private:
    T value_{};
    std::uint32_t code_ = RW_CODE_OK;
    std::string text_;
};

// A method of plain structs on one channel.
template <class Ask, class Reply> struct PodMethod {
    std::uint32_t number;
};

// A server that is called; forgotten by the destructor, which ends what still waits.
class Channel : public detail::Owned<rw_channel_close> {
public:
    using Owned::Owned;
    // Waits until calls can go there; `timeout_ns` < 0 without a limit.
    Result<void> ready(std::int64_t timeout_ns) { return detail::done(rw_channel_ready(engine(), id(), timeout_ns)); }
    // "package.Service/Method"
    Result<std::uint32_t> bind(std::string_view name, std::uint32_t kind = RW_KIND_UNARY, std::uint8_t codec = RW_CODEC_RAW,
                               std::uint32_t schema = 0)
    {
        std::uint32_t method = 0;
        const std::int32_t status =
            rw_method_bind(engine(), id(), name.data(), name.size(), kind, codec, schema, &method);
        if (status != RW_OK)
            return Error::last(status);
        return method;
    }
    // A unary method of plain structs; `schema` is the fingerprint that the server's definition has.
    template <class Ask, class Reply> Result<PodMethod<Ask, Reply>> bind_pod(std::string_view name, std::uint32_t schema = 0)
    {
        require_pod<Ask>();
        require_pod<Reply>();
        Result<std::uint32_t> number = bind(name, RW_KIND_UNARY, RW_CODEC_POD, schema);
        if (!number)
            return number.error();
        return PodMethod<Ask, Reply>{*number};
    }
    // Starts a call; events with its id and `user` follow.
    Result<Call> call(std::uint32_t method, Bytes request, const CallOptions &with = {}, std::uint64_t user = 0)
    {
        const rw_call_options options = with.raw();
        rw_call_id call = 0;
        const std::int32_t status =
            rw_call(engine(), id(), method, &options, request.data(), request.size(), user, &call);
        if (status != RW_OK)
            return Error::last(status);
        return Call(engine(), call);
    }
    Result<void> call_one_way(std::uint32_t method, Bytes request, const CallOptions &with = {})
    {
        const rw_call_options options = with.raw();
        return detail::done(rw_call_one_way(engine(), id(), method, &options, request.data(), request.size()));
    }
    // Waits for the end, without a limit but the options' timeout; no service of this engine is served meanwhile.
    Result<Response> call_sync(std::uint32_t method, Bytes request, const CallOptions &with = {})
    {
        const rw_call_options options = with.raw();
        rw_event event;
        const std::int32_t status =
            rw_call_sync(engine(), id(), method, &options, request.data(), request.size(), &event);
        if (status != RW_OK)
            return Error::last(status);
        return Response(Event(engine(), &event));
    }
    template <class Ask, class Reply>
    Result<Call> call(PodMethod<Ask, Reply> method, const Ask &request, const CallOptions &with = {}, std::uint64_t user = 0)
    {
        return call(method.number, pod_bytes(request), with, user);
    }
    // The Error tells that the call could not be made, or that the answer is no Reply.
    template <class Ask, class Reply>
    Result<Answer<Reply>> call_sync(PodMethod<Ask, Reply> method, const Ask &request, const CallOptions &with = {})
    {
        Result<Response> response = call_sync(method.number, pod_bytes(request), with);
        if (!response)
            return response.error();
        if (!response->ok()) {
            Result<std::string> text = response->text();
            return Answer<Reply>(response->code(), text ? *text : std::string());
        }
        Result<Reply> reply = pod<Reply>(response->bytes());
        if (!reply)
            return reply.error();
        return Answer<Reply>(*reply);
    }
};

// --------------------------------------------------------------------- serving

namespace detail {
inline std::int32_t refuse(rw_engine engine, rw_request request)
{
    constexpr std::string_view why = "the service let go of the request without an answer";
    return rw_reply_error(engine, request, RW_CODE_INTERNAL, why.data(), why.size());
}
} // namespace detail

// A call that you owe an answer. Can be kept and answered later; the destructor of one that was not answered ends it
// with INTERNAL. After RW_E_STALE nobody waits any more; after other errors it is still to be answered.
class Request : public detail::Owned<detail::refuse> {
public:
    using Owned::Owned;
    Result<void> reply(Bytes bytes) { return over(rw_reply(engine(), id(), bytes.data(), bytes.size())); }
    Result<void> reply(const Lease &lease) { return over(rw_reply_lease(engine(), id(), lease.id())); }
    template <class T> Result<void> reply_pod(const T &value) { return reply(pod_bytes(value)); }
    Result<void> error(std::uint32_t code, std::string_view text)
    {
        return over(rw_reply_error(engine(), id(), code, text.data(), text.size()));
    }
    // A message of an answering stream; the error's again(): no room now, RW_EV_REQUEST_WRITABLE follows.
    Result<void> send(Bytes bytes) { return detail::done(rw_reply_send(engine(), id(), bytes.data(), bytes.size())); }
    Result<void> send(const Lease &lease) { return detail::done(rw_reply_send_lease(engine(), id(), lease.id())); }
    Result<void> end() { return over(rw_reply_end(engine(), id())); }
    Result<void> metadata(Bytes block)
    {
        return detail::done(rw_reply_metadata(engine(), id(), block.data(), block.size()));
    }
    Result<rw_request_details> info() const
    {
        rw_request_details details;
        if (std::int32_t status = rw_request_info(engine(), id(), &details); status != RW_OK)
            return Error::last(status);
        return details;
    }

private:
    Result<void> over(std::int32_t status)
    {
        if (status == RW_OK || status == RW_E_STALE)
            leave();
        return detail::done(status);
    }
};

// What follows on a request that streams: RW_EV_REQUEST_MESSAGE, _END, _WRITABLE and RW_EV_CANCELLED, each as it comes.
using StreamHandler = detail::Handler<const Event &>;

// A service, "package.Service", with a function per method; Engine::add takes it.
class Service {
public:
    explicit Service(std::string name) : name_(std::move(name)) {}
    Service(Service &&) = default;
    Service &operator=(Service &&) = default;
    // Called with (Request, const Event &) for each call: RW_EV_REQUEST, with the request's bytes.
    template <class F> Service &unary(std::string name, F function, std::uint8_t codec = RW_CODEC_RAW, std::uint32_t schema = 0)
    {
        return add(std::move(name), RW_KIND_UNARY, codec, schema,
                   [function = std::move(function)](Request request, const Event &event) mutable {
                       function(std::move(request), event);
                       return StreamHandler();
                   });
    }
    // Called with (const Ask &), gives an Answer<Reply>. What is no Ask gets INVALID_ARGUMENT.
    template <class Ask, class Reply, class F> Service &pod(std::string name, F function, std::uint32_t schema = 0)
    {
        require_pod<Ask>();
        require_pod<Reply>();
        static_assert(std::is_invocable_r_v<Answer<Reply>, F &, const Ask &>, "the function gives an Answer<Reply> for an Ask");
        return unary(
            std::move(name),
            [function = std::move(function)](Request request, const Event &event) mutable {
                Result<Ask> ask = ringway::pod<Ask>(event.bytes());
                if (!ask) {
                    (void)request.error(RW_CODE_INVALID_ARGUMENT, ask.error().text());
                    return;
                }
                const Answer<Reply> answer = function(static_cast<const Ask &>(*ask));
                // Nobody waits any more, or the client takes no answer: that is told there.
                (void)(answer.ok() ? request.reply_pod(answer.value()) : request.error(answer.code(), answer.text()));
            },
            RW_CODEC_POD, schema);
    }
    // Called with (Request, const Event &) for each call; gives the StreamHandler of that call, which the engine owns
    // until the call is over, and which usually owns the Request.
    template <class F>
    Service &stream(std::string name, std::uint32_t kind, F function, std::uint8_t codec = RW_CODEC_RAW, std::uint32_t schema = 0)
    {
        return add(std::move(name), kind, codec, schema, std::move(function));
    }

private:
    friend class Engine;
    struct Method {
        virtual ~Method() = default;
        virtual StreamHandler open(Request request, const Event &event) noexcept = 0;
        std::string name;
        rw_method raw{};
    };
    template <class F> struct Of final : Method {
        explicit Of(F &&function) : function(std::move(function)) {}
        StreamHandler open(Request request, const Event &event) noexcept override
        {
            return StreamHandler(function(std::move(request), event));
        }
        F function;
    };
    template <class F> Service &add(std::string name, std::uint32_t kind, std::uint8_t codec, std::uint32_t schema, F function)
    {
        auto method = std::make_unique<Of<F>>(std::move(function));
        method->name = std::move(name);
        method->raw.kind = kind;
        method->raw.codec = codec;
        method->raw.schema = schema;
        methods_.push_back(std::move(method));
        return *this;
    }
    std::string name_;
    std::vector<std::unique_ptr<Method>> methods_;
};

// -------------------------------------------------------------------- engines

// Sockets, connections, timers and memory of one thread, and the services that were added. The destructor closes all.
class Engine {
public:
    // For the calling thread.
    static Result<Engine> create(const rw_engine_config *config = nullptr)
    {
        rw_engine id = 0;
        if (std::int32_t status = rw_engine_create(config, &id); status != RW_OK)
            return Error::last(status);
        return Engine(id);
    }
    Engine(Engine &&from) noexcept : id_(std::exchange(from.id_, 0)), served_(std::move(from.served_)) {}
    Engine &operator=(Engine &&from) noexcept
    {
        Engine other(std::move(from));
        std::swap(id_, other.id_);
        std::swap(served_, other.served_);
        return *this;
    }
    ~Engine()
    {
        // First the engine: what handlers own is over then, and gives nothing back twice.
        if (id_ != 0)
            rw_engine_destroy(id_);
    }
    rw_engine id() const noexcept { return id_; }
    Waker waker() const noexcept { return Waker(id_); }
    Result<Listener> listen(std::string_view address) { return made<Listener>(rw_listen, address); }
    // For calls of the services that were added.
    Result<Listener> serve(std::string_view address) { return made<Listener>(rw_serve, address); }
    Result<Channel> channel(std::string_view address) { return made<Channel>(rw_channel_open, address); }
    Result<Connection> connect(std::string_view address) { return made<Connection>(rw_connect, address); }
    Result<void> drain() { return detail::done(rw_engine_drain(id_)); }
    // Room of the engine for a message of `len` bytes.
    Result<LeaseRoom> lease(std::size_t len)
    {
        rw_buf buf;
        if (std::int32_t status = rw_lease_new(id_, len, &buf); status != RW_OK)
            return Error::last(status);
        return LeaseRoom(id_, buf.lease, Room(static_cast<std::byte *>(buf.data), buf.len));
    }
    // A lease of this engine of bytes that left one; both are yours.
    Result<Lease> attach(const Detached &detached)
    {
        rw_buf buf;
        if (std::int32_t status = rw_attach(id_, detached.id(), &buf); status != RW_OK)
            return Error::last(status);
        return Lease(id_, buf.lease, bytes(buf.data, buf.len));
    }
    Result<Timer> timer(std::uint64_t delay_ns, std::uint64_t user)
    {
        rw_timer timer = 0;
        if (std::int32_t status = rw_timer_set(id_, delay_ns, user, &timer); status != RW_OK)
            return Error::last(status);
        return Timer(id_, timer);
    }
    // For a loop of yours; see rw_event_fd for the order. The descriptor is the engine's.
    Result<int> event_fd()
    {
        std::int32_t fd = -1;
        if (std::int32_t status = rw_event_fd(id_, &fd); status != RW_OK)
            return Error::last(status);
        return static_cast<int>(fd);
    }
    // The error's again(): don't sleep, but poll and arm again.
    Result<void> arm() { return detail::done(rw_event_arm(id_)); }

    // Adds a service, before the first serve() and channel(). Its functions live as long as the engine.
    Result<void> add(Service service)
    {
        std::vector<rw_method> raw;
        for (const auto &method : service.methods_) {
            raw.push_back(method->raw);
            raw.back().name = method->name.data();
            raw.back().name_len = method->name.size();
        }
        std::uint32_t first = 0;
        const std::int32_t status = rw_service_add(id_, service.name_.data(), service.name_.size(), raw.data(),
                                                   static_cast<std::uint32_t>(raw.size()), &first);
        if (status != RW_OK)
            return Error::last(status);
        for (auto &method : service.methods_)
            served_->methods.emplace(first++, std::move(method));
        return {};
    }

    // Turns the engine and replaces what `events` held; `timeout_ns` < 0: until something came. Requests of added
    // services go to their functions before it returns, and are not in the range, so that it can be empty. True: something
    // came, be it for them; false: nothing before the timeout.
    template <std::size_t Count> Result<bool> poll(Events<Count> &events, std::int64_t timeout_ns)
    {
        if (served_ && served_->running)
            return Error(RW_E_STATE, "a function of a service polls the engine that runs it; return from it first");
        events.clear();
        events.engine_ = id_;
        const std::int32_t status = rw_poll(id_, events.events_, Count, &events.count_, timeout_ns);
        if (status == RW_AGAIN)
            return false;
        if (status != RW_OK) {
            events.count_ = 0;
            return Error::last(status);
        }
        served_->running = true;
        for (std::uint32_t at = 0; at < events.count_; ++at)
            if (served_->had(id_, Event(id_, &events.events_[at])))
                events.events_[at].kind = 0;
        served_->running = false;
        return true;
    }

private:
    struct Served {
        std::unordered_map<std::uint32_t, std::unique_ptr<Service::Method>> methods;
        // Of requests that stream; each until its request is over.
        std::unordered_map<rw_request, StreamHandler> streams;
        std::size_t sweep_at = 64;
        bool running = false;

        bool had(rw_engine engine, const Event &event)
        {
            switch (event.kind()) {
            case RW_EV_REQUEST: {
                const auto method = methods.find(event.raw().method);
                if (method == methods.end())
                    return false;
                StreamHandler stream = method->second->open(Request(engine, event.id()), event);
                if (stream && !over(engine, event.id()))
                    keep(engine, event.id(), std::move(stream));
                break;
            }
            case RW_EV_REQUEST_MESSAGE:
            case RW_EV_REQUEST_END:
            case RW_EV_REQUEST_WRITABLE:
            case RW_EV_CANCELLED: {
                const auto stream = streams.find(event.id());
                if (stream == streams.end())
                    return false;
                stream->second(event);
                if (event.kind() == RW_EV_CANCELLED || over(engine, event.id()))
                    streams.erase(stream);
                break;
            }
            default:
                return false;
            }
            (void)event.take();
            return true;
        }
        static bool over(rw_engine engine, rw_request request) noexcept
        {
            rw_request_details details;
            return rw_request_info(engine, request, &details) != RW_OK;
        }
        void keep(rw_engine engine, rw_request request, StreamHandler stream)
        {
            // Those whose Request was answered elsewhere than in their handler: no event tells of them.
            if (streams.size() >= sweep_at) {
                for (auto at = streams.begin(); at != streams.end();)
                    at = over(engine, at->first) ? streams.erase(at) : std::next(at);
                sweep_at = streams.size() * 2 > 64 ? streams.size() * 2 : 64;
            }
            streams.emplace(request, std::move(stream));
        }
    };
    explicit Engine(rw_engine id) : id_(id), served_(std::make_unique<Served>()) {}
    template <class T, class Make> Result<T> made(Make make, std::string_view address)
    {
        std::uint64_t id = 0;
        if (std::int32_t status = make(id_, address.data(), address.size(), &id); status != RW_OK)
            return Error::last(status);
        return T(id_, id);
    }

    rw_engine id_;
    std::unique_ptr<Served> served_;
};

} // namespace ringway

#endif
