/* ringway: low-latency messages and calls between Linux processes.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The rules, which hold for every function below and are not repeated there:
 *
 * - Returns. A function that can fail returns a status: RW_OK (0), RW_AGAIN (1: nothing now), or a negative RW_E_*.
 *   Values come through the last pointers only. On a negative status nothing was consumed and no value was written:
 *   what you passed is still yours. rw_last_error gives the text, with cause and fix.
 * - Thread. An engine belongs to the thread that created it; from another one every function answers RW_E_THREAD,
 *   except rw_wake. Engines do not know of each other: use one per thread. In a forked child they answer RW_E_FORK.
 *   Engines of rw_threads_start have a thread of their own, and take their functions from any other thread.
 * - Progress. Nothing happens but inside rw_poll, rw_call_sync, rw_channel_ready and rw_event_arm. There are no callbacks, and no
 *   function enters your code.
 * - Ids. Engines, connections, leases, calls and so on are numbers with a generation, never pointers and never 0. One
 *   that is over, was made up, or belongs to another engine answers RW_E_STALE, whatever was made in its place.
 * - Leases. Bytes you receive stay where they arrived, until you rw_release their lease; handing them out copies
 *   nothing. Until then they count against the engine's budget, which holds the peer back. All leases end with their
 *   engine.
 * - Text is UTF-8, as pointer and length; it needs no NUL. Functions that give text copy as much as fits into `to`
 *   (no NUL is added), and tell the whole length in `len`; `to` may be NULL with a `cap` of 0.
 * - Sizes. Structs with a `struct_size` grow at their end; initialise them with their RW_..._INIT. NULL instead of
 *   such a struct means its defaults. Fields of a newer header that this library does not know have to be 0.
 * - NULL, misaligned pointers and values out of their range answer RW_E_INVALID. A panic of the library ends at its
 *   border as RW_E_PANIC; the engine refuses everything but rw_engine_destroy then.
 * - Blocking. No function blocks but those that say so. In steady state sending, receiving, calling, answering and
 *   polling allocate nothing, while tables and queues keep their size; what sets up, names, describes or fails may.
 *
 * The library can't be unloaded again (it is linked with `-z nodelete`).
 */
#ifndef RINGWAY_H
#define RINGWAY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI that this header describes: RW_ABI_MAJOR changes when old programs would break. */
#define RW_ABI_MAJOR 0
#define RW_ABI_MINOR 2

/* ------------------------------------------------------------------ statuses */

#define RW_OK 0
/* Nothing now: no event before the timeout, no room in a stream, no such entry. Not an error. */
#define RW_AGAIN 1
/* NULL, a wrong struct size, a value out of its range. */
#define RW_E_INVALID (-1)
/* The id is over, made up, or another engine's. */
#define RW_E_STALE (-2)
/* A queue or the memory budget is full. Try again after RW_EV_WRITABLE, or after releasing leases. */
#define RW_E_FULL (-3)
/* The message or its metadata is longer than the other side takes; trying again does not help. */
#define RW_E_TOO_LONG (-4)
/* The connection's handshake is not done; wait for RW_EV_OPENED. */
#define RW_E_NOT_OPEN (-5)
/* The connection is closing. */
#define RW_E_CLOSED (-6)
/* The address can't be read or resolved. */
#define RW_E_ADDRESS (-7)
/* The kernel refused; the text says what and how to fix it. */
#define RW_E_SYSTEM (-8)
/* A table is full: engines, listeners, connections, channels, timers, calls. */
#define RW_E_LIMIT (-9)
/* A claim is open; rw_commit or rw_abort it first. */
#define RW_E_BUSY (-10)
/* The engine belongs to another thread. */
#define RW_E_THREAD (-11)
/* The engine belongs to the parent process. */
#define RW_E_FORK (-12)
/* Not in this order: the text says what comes first. */
#define RW_E_STATE (-13)
/* A bug of the library; destroy the engine. */
#define RW_E_PANIC (-14)
/* The server can't be reached now. */
#define RW_E_UNAVAILABLE (-15)
/* The call, service or connection can't be made like this; the text says why. */
#define RW_E_REFUSED (-16)

/* The codes that calls end with: gRPC's. */
#define RW_CODE_OK 0
#define RW_CODE_CANCELLED 1
#define RW_CODE_UNKNOWN 2
#define RW_CODE_INVALID_ARGUMENT 3
#define RW_CODE_DEADLINE_EXCEEDED 4
#define RW_CODE_NOT_FOUND 5
#define RW_CODE_ALREADY_EXISTS 6
#define RW_CODE_PERMISSION_DENIED 7
#define RW_CODE_RESOURCE_EXHAUSTED 8
#define RW_CODE_FAILED_PRECONDITION 9
#define RW_CODE_ABORTED 10
#define RW_CODE_OUT_OF_RANGE 11
#define RW_CODE_UNIMPLEMENTED 12
#define RW_CODE_INTERNAL 13
#define RW_CODE_UNAVAILABLE 14
#define RW_CODE_DATA_LOSS 15
#define RW_CODE_UNAUTHENTICATED 16

/* --------------------------------------------------------------------- types */

/* An engine: sockets, connections, timers and memory of one thread. */
typedef uint64_t rw_engine;
/* Things of an engine. */
typedef uint64_t rw_listener;
typedef uint64_t rw_connection;
typedef uint64_t rw_lease;
typedef uint64_t rw_timer;
typedef uint64_t rw_channel; /* a server that is called */
typedef uint64_t rw_call_id; /* a call that you made */
typedef uint64_t rw_request; /* a call that you owe an answer */
/* Bytes that left their engine; a thing of the process. */
typedef uint64_t rw_detached;

#define RW_DRIVER_AUTO 0 /* io_uring where its self-test passes, else epoll; RINGWAY_DRIVER takes precedence */
#define RW_DRIVER_URING 1 /* io_uring, or RW_E_SYSTEM with the reason and the fix */
#define RW_DRIVER_EPOLL 2

#define RW_IDLE_ADAPTIVE 0 /* spins for about one wake-up after the last event, then sleeps */
#define RW_IDLE_SPIN 1 /* never sleeps: lowest latency, one core always busy */
#define RW_IDLE_PARK 2 /* sleeps at once: least CPU */

/* How an engine is set up. 0 in a field means its default. */
typedef struct rw_engine_config {
    uint32_t struct_size;
    uint32_t driver; /* RW_DRIVER_*; default RW_DRIVER_AUTO */
    uint32_t idle; /* RW_IDLE_*; default RW_IDLE_ADAPTIVE */
    uint32_t message_bytes_max; /* longest message that this side takes; default 64 MiB, at most 128 MiB */
    uint64_t spin_ns; /* how long RW_IDLE_ADAPTIVE spins; default 50,000 */
    uint64_t connect_timeout_ns; /* default 10 s */
    uint64_t budget_bytes; /* memory that peers can make it hold; default 1 GiB, reserved lazily */
    uint64_t queue_bytes_max; /* bytes that may wait on one connection; default 4 MiB */
    uint32_t connections_max; /* default 16,384, at most 16,000,000 */
    uint32_t leases_max; /* leases that may be out before messages are held back; default 65,536 */
} rw_engine_config;
#define RW_ENGINE_CONFIG_INIT {sizeof(rw_engine_config), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Kinds of events. What `id`, `user`, `status`, `data` and the rest mean stands with each. */
#define RW_EV_OPENED 1 /* id: connection, takes messages now. user: the rw_listener that accepted it, or 0. len: longest
                          message that the peer takes */
#define RW_EV_MESSAGE 2 /* id: connection. data, len, lease: the message. message_kind, flags, tag, word: as sent */
#define RW_EV_WRITABLE 3 /* id: connection. After RW_E_FULL: there is room again */
#define RW_EV_DRAINING 4 /* id: connection. The peer wants no new work; rw_hold keeps it open while you finish */
#define RW_EV_CLOSED 5 /* id: connection, gone now; its last event. status: RW_CLOSED_*. word: bytes that were accepted
                          and never left. data, len, lease: the reason as text (lease is 0 if memory lacked) */
#define RW_EV_TIMER 6 /* id: timer, over now. user: as given to rw_timer_set */
#define RW_EV_WOKEN 7 /* somebody called rw_wake, once or more often */
#define RW_EV_REQUEST 8 /* id: a call that you owe an answer. method: number from rw_service_add. data, len, lease: the
                           request (lease is 0 if it is missing). flags: 1 if the client streams: its messages are
                           events of their own, not among those that one rw_poll hands out together with this */
#define RW_EV_CANCELLED 9 /* id: a call that you owe no answer any more: cancelled, too late, or its connection gone.
                             Comes once for each that you did not answer. user: as given to rw_request_user */
#define RW_EV_STREAM_MESSAGE 10 /* id: call. user: as given to rw_call. data, len, lease: a message of the answering
                                   stream; releasing it lets the server send more */
#define RW_EV_STREAM_WRITABLE 11 /* id: call. user. After RW_AGAIN of rw_stream_send: there is room again */
#define RW_EV_RESPONSE 12 /* id: call, over now; its last event. user. status: RW_CODE_*. data, len, lease: the answer;
                             for another code or metadata see rw_answer_text, rw_answer_metadata (lease may be 0) */

#define RW_EV_REQUEST_MESSAGE 13 /* id: request. user: as given to rw_request_user. data, len, lease: a message of the
                                    client's stream; releasing it lets the client send more */
#define RW_EV_REQUEST_END 14 /* id: request. user. The client's stream is over; once, if it is not cancelled before */
#define RW_EV_REQUEST_WRITABLE 15 /* id: request. user. After RW_AGAIN of rw_reply_send: there is room again */
#define RW_EV_SENT 16 /* id: connection. user: as given to rw_send_ref, whose memory is yours again */

#define RW_CLOSED_LOCAL 1 /* by this side */
#define RW_CLOSED_PEER 2 /* by the peer, with a goodbye */
#define RW_CLOSED_DRAINED 3
#define RW_CLOSED_VIOLATION 4 /* the peer broke the protocol */
#define RW_CLOSED_ENDED 5 /* the peer's stream ended without a goodbye */
#define RW_CLOSED_CONNECT_FAILED 6
#define RW_CLOSED_TIMEOUT 7
#define RW_CLOSED_BROKEN 8 /* reset */
#define RW_CLOSED_OTHER 9

typedef struct rw_event {
    uint32_t kind; /* RW_EV_* */
    int32_t status;
    uint64_t id;
    uint64_t user;
    const void *data;
    uint64_t len;
    rw_lease lease; /* 0: none */
    uint32_t method;
    uint16_t tag;
    uint8_t flags;
    uint8_t message_kind;
    uint64_t word;
} rw_event;

/* Room to write into, or bytes to read. */
typedef struct rw_buf {
    void *data;
    size_t len;
    rw_lease lease; /* 0 for claims */
} rw_buf;

/* ------------------------------------------------------- versions and errors */

/* RW_ABI_MAJOR << 16 | RW_ABI_MINOR of the library. Any thread. */
uint32_t rw_abi_version(void);
/* The library's version, e.g. "0.1.0". Static, NUL-terminated, never NULL. Any thread. */
const char *rw_version(void);
/* Name of a status, e.g. "RW_E_STALE"; "RW_UNKNOWN" for others. Static, NUL-terminated. Any thread. */
const char *rw_status_name(int32_t status);
/* Name of the code that a call ended with, e.g. "NOT_FOUND". Static, NUL-terminated. Any thread. */
const char *rw_code_name(uint32_t code);
/* Copies the text of this thread's last failure: cause and fix. Later successes leave it as it is. Any thread. */
int32_t rw_last_error(char *to, size_t cap, size_t *len);

/* ------------------------------------------------------------------- engines */

/* Makes an engine for the calling thread. Allocates; takes up to some milliseconds (the driver's self-test).
 * `config` is read during the call only. RW_E_INVALID: its fields contradict each other; RW_E_SYSTEM: no driver could be
 * started; RW_E_LIMIT: 256 engines live. */
int32_t rw_engine_create(const rw_engine_config *config, rw_engine *engine);
/* Closes all connections at once and frees everything, leases included: their bytes must not be read any more. Waits at
 * most 2 s for operations that the kernel still holds. An open claim is aborted. An engine whose thread ended before can't
 * be destroyed any more: it stays until the process ends. */
int32_t rw_engine_destroy(rw_engine engine);
/* Asks every peer to finish, accepts nothing new; connections close when both sides are done. Poll on meanwhile. */
int32_t rw_engine_drain(rw_engine engine);
/* Listens for messages on tcp://, unix://, udp:// or rudp://. Host names are resolved here, which may block.
 * Connections come as RW_EV_OPENED. On udp:// the events' connection is the socket itself, which only receives: who sent
 * is not told, and sending on it answers RW_E_INVALID; sockets of rw_connect send. */
int32_t rw_listen(rw_engine engine, const char *address, size_t len, rw_listener *listener);
/* Listens for calls of the services that were added before. Calls come as RW_EV_REQUEST. RW_E_REFUSED: on udp://. */
int32_t rw_serve(rw_engine engine, const char *address, size_t len, rw_listener *listener);
/* Closes a listener; what it accepted lives on. 64 can be open, and 4,096 be opened within a minute. */
int32_t rw_unlisten(rw_engine engine, rw_listener listener);
/* Copies the address that a listener is bound to, with the port that the kernel chose. */
int32_t rw_listener_address(rw_engine engine, rw_listener listener, char *to, size_t cap, size_t *len);
/* Starts connecting for messages; RW_EV_OPENED or RW_EV_CLOSED follows. Resolving a host name may block. RW_E_REFUSED:
 * rudp:// to a public address. */
int32_t rw_connect(rw_engine engine, const char *address, size_t len, rw_connection *connection);
/* Copies the other side's address. RW_E_STALE also if it has none (an unnamed unix socket). */
int32_t rw_peer_address(rw_engine engine, rw_connection connection, char *to, size_t cap, size_t *len);
/* Closes a connection: what is queued is sent, the peer gets `code` (0: normal), RW_EV_CLOSED follows. */
int32_t rw_close(rw_engine engine, rw_connection connection, uint16_t code);
/* Asks the peer to send nothing new; closes when both sides are done. */
int32_t rw_drain(rw_engine engine, rw_connection connection);
/* Keeps a draining connection open (1) until you are done with it (0). */
int32_t rw_hold(rw_engine engine, rw_connection connection, int32_t hold);
/* Stops reading from a connection (1), which holds the peer back, or goes on (0). */
int32_t rw_pause(rw_engine engine, rw_connection connection, int32_t pause);
/* Bytes that wait for sending. */
int32_t rw_queued_bytes(rw_engine engine, rw_connection connection, uint64_t *bytes);
/* Longest message that the connection takes now. RW_E_NOT_OPEN before RW_EV_OPENED, and for udp://. */
int32_t rw_message_bytes_max(rw_engine engine, rw_connection connection, uint64_t *bytes);
/* Turns the engine until there are events, and writes up to `cap` (at least 1) of them to `events`, the oldest first.
 * Blocks: `timeout_ns` < 0 until there is one, 0 not at all, else at most so long. How it waits is the engine's
 * `idle`. RW_AGAIN with a count of 0: none before the timeout. */
int32_t rw_poll(rw_engine engine, rw_event *events, uint32_t cap, uint32_t *count, int64_t timeout_ns);
/* One descriptor for an event loop of your own (epoll, libuv, ...): it is readable when the engine has work. It is the
 * engine's, is closed by rw_engine_destroy, and must only be watched for reading, level-triggered. Allocates. The order:
 *
 *     do {
 *         while (rw_poll(engine, events, n, &count, 0) == RW_OK)
 *             ... handle the events, send, call, ...
 *     } while (rw_event_arm(engine) == RW_AGAIN);
 *     ... sleep in your loop until `fd` or something else of yours is ready, and begin anew.
 *
 * RW_E_SYSTEM: no descriptors are left. */
int32_t rw_event_fd(rw_engine engine, int32_t *fd);
/* Makes the descriptor tell of everything that comes from here on: the last function of this engine before you sleep, as
 * what others queue or set leaves and counts with the next rw_poll only. Does not block; some system calls. RW_AGAIN:
 * something came already or waits; don't sleep, but rw_poll and arm again. RW_E_STATE: before rw_event_fd. */
int32_t rw_event_arm(rw_engine engine);
/* Makes the engine's rw_poll return with RW_EV_WOKEN. From any thread, at any time, and without blocking; what was
 * written before it is seen by who gets the event. Not from signal handlers. */
int32_t rw_wake(rw_engine engine);
/* The engine's clock: CLOCK_MONOTONIC in nanoseconds. */
int32_t rw_now_ns(rw_engine engine, uint64_t *now);
/* Sets a timer; RW_EV_TIMER follows once after `delay_ns`, with `user`. */
int32_t rw_timer_set(rw_engine engine, uint64_t delay_ns, uint64_t user, rw_timer *timer);
/* Cancels a timer. RW_E_STALE if its event was made already: it may still be on its way to you. */
int32_t rw_timer_cancel(rw_engine engine, rw_timer timer);

/* ------------------------------------------------------------------ messages */

/* Claims room for a message of `len` bytes in the connection's batch, to be written in place: no copy, no system call
 * (it leaves with the next rw_poll, together with all others). The room holds unspecified bytes and is valid until
 * rw_commit or rw_abort, one of which has to come before anything else of this engine but rw_engine_destroy, rw_wake,
 * rw_lease_data and rw_release (of other leases than those of RW_EV_STREAM_MESSAGE): all else answers RW_E_BUSY.
 * RW_E_FULL, RW_E_TOO_LONG, RW_E_NOT_OPEN, RW_E_CLOSED. */
int32_t rw_claim(rw_engine engine, rw_connection connection, size_t len, rw_buf *buf);
/* Sends the first `len` bytes of the open claim (all of it, if that is shorter). RW_E_STATE: there is none. */
int32_t rw_commit(rw_engine engine, size_t len);
/* The same, with fields for the layer above: a kind of 0x40 or more, flags, tag, word. RW_E_INVALID: another kind; the
 * claim stays open. */
int32_t rw_commit_as(rw_engine engine, size_t len, uint8_t kind, uint8_t flags, uint16_t tag, uint64_t word);
/* Takes the open claim back. RW_E_STATE: there is none. */
int32_t rw_abort(rw_engine engine);
/* Sends a copy of `data`. Errors as rw_claim. */
int32_t rw_send(rw_engine engine, rw_connection connection, const void *data, size_t len);
/* Leases memory of the engine for a message of `len` bytes, to be written in place and sent by rw_send_lease, rw_call
 * or rw_reply_lease. It holds unspecified bytes. Any number may be out. RW_E_FULL: the budget is used up. */
int32_t rw_lease_new(rw_engine engine, size_t len, rw_buf *buf);
/* Shortens a lease of rw_lease_new. RW_E_STATE once sending it was tried. */
int32_t rw_lease_truncate(rw_engine engine, rw_lease lease, size_t len);
/* Where a lease's bytes are. Only those of rw_lease_new may be written, and only until sending them is tried. */
int32_t rw_lease_data(rw_engine engine, rw_lease lease, rw_buf *buf);
/* Sends a lease's bytes without copying them: one that was written, or one that was received (forwarding, fan-out). The
 * lease stays yours: send it again, or release it; the engine keeps the bytes as long as it needs them. */
int32_t rw_send_lease(rw_engine engine, rw_connection connection, rw_lease lease);
/* Gives a lease back; its bytes must not be read any more. RW_E_STALE: it was released before. */
int32_t rw_release(rw_engine engine, rw_lease lease);
/* Sends your memory without copying it. On RW_OK the bytes must be left as they are until RW_EV_SENT, which comes exactly
 * once for each, with `user`, also if the connection closes before; or until rw_engine_destroy returns, which makes no
 * events any more. Over rudp:// that is when the peer has acknowledged them. Below 4 KiB they are copied into the batch,
 * which costs less, and RW_EV_SENT comes with the next rw_poll. 65,536 can be out (RW_E_LIMIT). Other errors as rw_claim.
 * Allocates a little. */
int32_t rw_send_ref(rw_engine engine, rw_connection connection, const void *data, size_t len, uint64_t user);
/* Takes a lease out of its engine: the lease is over, its bytes stay where they are, and are the process's. buf->lease is
 * their rw_detached, which outlives the engine, can be used from any thread, and is yours to release. Until then they
 * count against the budget of the engine they came from. No copy. RW_E_STATE: the lease has no bytes; RW_E_LIMIT:
 * 65,536 are out. */
int32_t rw_detach(rw_engine engine, rw_lease lease, rw_buf *buf);
/* Where detached bytes are; they must not be written. Any thread. RW_E_FORK: they are the parent process's. */
int32_t rw_detached_data(rw_detached detached, rw_buf *buf);
/* Gives detached bytes back. Any thread. RW_E_STALE: they were released before. */
int32_t rw_detached_release(rw_detached detached);
/* Makes a lease of an engine from detached bytes, to send or answer with them; both are yours to release. No copy. */
int32_t rw_attach(rw_engine engine, rw_detached detached, rw_buf *buf);

/* -------------------------------------------------------------- calling (RPC) */

/* The form of a method. */
#define RW_KIND_UNARY 0
#define RW_KIND_CLIENT_STREAM 1
#define RW_KIND_SERVER_STREAM 2
#define RW_KIND_BIDI 3
/* How its messages are encoded; both sides have to agree. */
#define RW_CODEC_RAW 0
#define RW_CODEC_PROTOBUF 1
#define RW_CODEC_POD 2

#define RW_CALL_IDEMPOTENT 1 /* doing it twice does what doing it once does */
#define RW_CALL_COMPRESS 2 /* compress the request, if the server can unpack it */
#define RW_CALL_STREAM 4 /* you send more by rw_stream_send; without it the request is all */

/* How a call is made. */
typedef struct rw_call_options {
    uint32_t struct_size;
    uint32_t flags; /* RW_CALL_* */
    int64_t timeout_ns; /* ends the call with DEADLINE_EXCEEDED, here and there; 0: never */
    const void *metadata; /* written by rw_metadata_add, read during the call only */
    size_t metadata_len;
    rw_lease lease; /* the request, instead of `data`; stays yours. What the server takes in one piece (64 KiB, if it
                       is ringway's default) is copied into the batch, more is not. 0: none */
    uint32_t priority; /* 0 most urgent, 7 least */
    uint32_t reserved; /* 0 */
} rw_call_options;
#define RW_CALL_OPTIONS_INIT {sizeof(rw_call_options), 0, 0, NULL, 0, 0, 4, 0}

/* Names a server and starts connecting to it; the connection is made anew whenever it breaks. Does not wait, except
 * that resolving a host name may block. Allocates. */
int32_t rw_channel_open(rw_engine engine, const char *address, size_t len, rw_channel *channel);
/* Forgets a server: open calls are finished, waiting ones end. */
int32_t rw_channel_close(rw_engine engine, rw_channel channel);
/* Waits until calls can go to a server. Blocks as rw_poll does; events stay for rw_poll. RW_AGAIN: not yet;
 * RW_E_UNAVAILABLE: connecting failed (it is tried again), the text says why; RW_E_FULL: 65,536 events wait already. */
int32_t rw_channel_ready(rw_engine engine, rw_channel channel, int64_t timeout_ns);
/* Registers a method, "package.Service/Method", and gives its number on this channel. Does not wait: if the server
 * lacks it, or has it in another shape, its calls say so. The same method gets the same number. Allocates. */
int32_t rw_method_bind(rw_engine engine, rw_channel channel, const char *name, size_t len, uint32_t kind, uint8_t codec,
                       uint32_t schema, uint32_t *method);
/* Starts a call and does not wait. `data` is read during the call only: it is written straight into the connection's
 * batch. RW_EV_RESPONSE follows, exactly once, unless you cancel it; for answering streams RW_EV_STREAM_MESSAGE before
 * it. `user` comes with every event. On an error it surely did not start: RW_E_UNAVAILABLE, RW_E_FULL, RW_E_TOO_LONG,
 * RW_E_REFUSED. */
int32_t rw_call(rw_engine engine, rw_channel channel, uint32_t method, const rw_call_options *options, const void *data,
                size_t len, uint64_t user, rw_call_id *call);
/* Makes a call that nobody answers, of bytes, without RW_CALL_STREAM. RW_OK: it is accepted for sending. Errors as
 * rw_call. */
int32_t rw_call_one_way(rw_engine engine, rw_channel channel, uint32_t method, const rw_call_options *options,
                        const void *data, size_t len);
/* Makes a call and waits for the connection and for its end: turns the engine, and blocks without a limit but the
 * options' `timeout_ns`. `response` is the RW_EV_RESPONSE; look at its `status`, and release its lease. Other events
 * stay for rw_poll, so a service of this engine is not served meanwhile; RW_E_FULL also if 65,536 of them wait already.
 * RW_E_UNAVAILABLE: connecting failed, or took all of the time. Other errors as rw_call. */
int32_t rw_call_sync(rw_engine engine, rw_channel channel, uint32_t method, const rw_call_options *options,
                     const void *data, size_t len, rw_event *response);
/* Gives a call up; nothing more is made of it, but events that were made before may still be on their way to you.
 * RW_E_STALE: it is over; the same holds for its RW_EV_RESPONSE. */
int32_t rw_call_cancel(rw_engine engine, rw_call_id call);
/* Sends a message of a call with RW_CALL_STREAM; `end` 1: the last one. RW_AGAIN: no room now, nothing was sent;
 * RW_EV_STREAM_WRITABLE follows. RW_E_STALE: the call is over, or the last one was sent. */
int32_t rw_stream_send(rw_engine engine, rw_call_id call, const void *data, size_t len, int32_t end);
/* Ends the client's stream without a further message. RW_E_STALE as rw_stream_send. */
int32_t rw_stream_end(rw_engine engine, rw_call_id call);
/* Copies the text of a call that did not go well, from its response's lease; empty if there is none. */
int32_t rw_answer_text(rw_engine engine, rw_lease lease, char *to, size_t cap, size_t *len);
/* The metadata of an answer, valid until its lease is released; a length of 0: none. */
int32_t rw_answer_metadata(rw_engine engine, rw_lease lease, const void **data, size_t *len);

/* -------------------------------------------------------------- serving (RPC) */

/* A method of a service. */
typedef struct rw_method {
    const char *name; /* without its service: "Get" */
    size_t name_len;
    uint32_t kind; /* RW_KIND_* */
    uint32_t schema; /* fingerprint of a Pod layout; 0 for others */
    uint8_t codec; /* RW_CODEC_* */
    uint8_t idempotent; /* 1: clients may repeat it */
    uint8_t reserved[6]; /* 0 */
} rw_method;

/* Adds a service, "package.Service", with 1 to 1,024 methods; they get the numbers from `first` on. Before the first
 * rw_serve and rw_channel_open, else RW_E_STATE. RW_E_REFUSED: a name was taken before. Everything is read during the
 * call only; names are kept for the life of the process (each once). Allocates. */
int32_t rw_service_add(rw_engine engine, const char *name, size_t len, const rw_method *methods, uint32_t count,
                       uint32_t *first);

/* What came with a request. */
typedef struct rw_request_details {
    const void *metadata; /* valid until the request is answered or cancelled */
    size_t metadata_len;
    int64_t timeout_ns; /* left when it came; -1: the client waits for ever */
    uint8_t priority; /* 0 most urgent, 7 least */
    uint8_t attempt; /* how often the client tried before */
    uint8_t idempotent;
    uint8_t reserved[5];
} rw_request_details;

/* Tells what came with a request. RW_E_STALE: it was answered, or its RW_EV_CANCELLED was made. */
int32_t rw_request_info(rw_engine engine, rw_request request, rw_request_details *info);
/* A number that comes back with RW_EV_CANCELLED. */
int32_t rw_request_user(rw_engine engine, rw_request request, uint64_t user);
/* Metadata that goes out with the end of the call, whatever that is: a block of rw_metadata_add, copied. The last one
 * counts. RW_E_STALE as rw_reply. */
int32_t rw_reply_metadata(rw_engine engine, rw_request request, const void *block, size_t len);
/* Answers a method that does not stream its answers (RW_E_STATE). `data` is read during the call only: it is written
 * straight into the connection's batch, as rw_call does. The request's lease is still yours to release. RW_E_STALE:
 * nobody waits any more; if you did not answer it, RW_EV_CANCELLED came or comes. An answer that is too long for the
 * client, or finds no memory, ends the call with RESOURCE_EXHAUSTED there. */
int32_t rw_reply(rw_engine engine, rw_request request, const void *data, size_t len);
/* Answers with a lease's bytes; the lease stays yours. Below 4 KiB they are copied into the batch, from there on not.
 * Errors as rw_reply. */
int32_t rw_reply_lease(rw_engine engine, rw_request request, rw_lease lease);
/* Sends a message of an answering stream (RW_E_STATE: the method has none), read during the call only. RW_AGAIN: no room
 * now, because the client takes none; nothing was sent, and RW_EV_REQUEST_WRITABLE follows. What the client gives no
 * credit for is kept, up to 64 KiB and one message. RW_E_STALE: nobody waits any more. A message that is too long for the
 * client ends the call with RESOURCE_EXHAUSTED there. */
int32_t rw_reply_send(rw_engine engine, rw_request request, const void *data, size_t len);
/* The same with a lease's bytes; the lease stays yours. From 4 KiB on they are not copied. */
int32_t rw_reply_send_lease(rw_engine engine, rw_request request, rw_lease lease);
/* Ends an answering stream with RW_CODE_OK, behind all that it sent. RW_E_STATE: the method has none. */
int32_t rw_reply_end(rw_engine engine, rw_request request);
/* Ends a request with a code other than RW_CODE_OK and a text for people. What its stream has not sent is dropped. */
int32_t rw_reply_error(rw_engine engine, rw_request request, uint32_t code, const char *message, size_t len);

/* ------------------------------------------------------- threads of the library */

/* Engines that run on threads of the library's own. All functions of such an engine may be called from any thread, and
 * mean the same: its thread does them, and the caller waits meanwhile, some microseconds if cores are free. Not so rw_poll,
 * rw_claim, rw_event_fd and rw_event_arm (RW_E_STATE), nor rw_engine_destroy (RW_E_THREAD). rw_call_sync and
 * rw_channel_ready hold up nobody but their caller, so many threads can call over one engine. An engine of your own on
 * each thread of yours costs no such hop. */
typedef uint64_t rw_threads;

typedef struct rw_threads_config {
    uint32_t struct_size;
    uint32_t count; /* engines, each on a thread; default 1, at most 256 */
    const uint32_t *cores; /* to pin the threads to, in turns; NULL: the system chooses */
    uint32_t cores_count;
    uint32_t events_max; /* events that may wait for rw_threads_next; default 65,536 */
    const rw_engine_config *engine; /* how each engine is set up; NULL: the defaults */
} rw_threads_config;
#define RW_THREADS_CONFIG_INIT {sizeof(rw_threads_config), 0, NULL, 0, 0, NULL}

/* An event, and whose it is. */
typedef struct rw_thread_event {
    rw_engine engine;
    rw_event event;
} rw_thread_event;

/* Starts engines, each on a thread of its own, and writes as many to `engines`, which has room for `cap`. The config is
 * read during the call only. RW_E_SYSTEM: a thread, a pin or a driver is refused; RW_E_LIMIT: too many engines or groups.
 * Nothing runs on an error. Any thread. */
int32_t rw_threads_start(const rw_threads_config *config, rw_engine *engines, uint32_t cap, rw_threads *threads);
/* Takes up to `cap` (at least 1) events of all engines, those of one engine in order. Any number of threads may do so at
 * once; each event goes to one. While `events_max` wait, the engines don't turn (they go on doing your functions), which
 * holds peers back; one turn's events may come on top. Blocks as rw_poll does; RW_AGAIN with a count of 0: none came in
 * time, or the group is being stopped. What rw_request_info told stays until RW_EV_CANCELLED was taken.
 * Events of a client's stream may be made, without a `user`, before rw_request_user was called. */
int32_t rw_threads_next(rw_threads threads, rw_thread_event *events, uint32_t cap, uint32_t *count, int64_t timeout_ns);
/* Listens for calls, as rw_serve, on the first engine, and gives the connections to all engines in turns: add the same
 * services to each of them before. RW_E_REFUSED: an address that is neither tcp:// nor unix://. Any thread. */
int32_t rw_threads_serve(rw_threads threads, const char *address, size_t len, rw_listener *listener);
/* Ends the threads and destroys their engines, as rw_engine_destroy does: who waits in a function of one gets RW_E_STALE,
 * events that were not taken are lost. Blocks until the threads have ended. Any thread. */
int32_t rw_threads_stop(rw_threads threads);

/* -------------------------------------------------------- metadata and figures */

/* Appends an entry to a block in your memory: `cap` bytes at `block`, of which `*used` are written (start with 0). Names
 * have 1 to 255 bytes, values some 65,000. RW_E_FULL: no room; nothing was written. Allocates. Any thread. */
int32_t rw_metadata_add(void *block, size_t cap, size_t *used, const char *name, size_t name_len, const void *value,
                        size_t value_len);
/* Finds a name's first value, inside the block. RW_AGAIN: there is none. Any thread. */
int32_t rw_metadata_find(const void *block, size_t len, const char *name, size_t name_len, const void **value,
                         size_t *value_len);
/* The number by which servers know a method: a hash of "package.Service/Method". Any thread. */
int32_t rw_method_id(const char *name, size_t len, uint64_t *id);
/* Copies the name of the driver in use: "io_uring" or "epoll". */
int32_t rw_driver_name(rw_engine engine, char *to, size_t cap, size_t *len);
/* Copies why another driver than the preferred one is in use, with the fix; empty if it is the preferred one. */
int32_t rw_driver_why(rw_engine engine, char *to, size_t cap, size_t *len);

/* Figures of an engine. */
typedef struct rw_stats {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t turns;
    uint64_t messages_in;
    uint64_t messages_out;
    uint64_t connections; /* open now */
    uint64_t budget_used; /* bytes of the memory budget in use */
    uint64_t copies; /* copies of payload bytes inside this thread's engines so far */
    uint64_t leases; /* out now */
    uint64_t calls; /* made and not over */
    uint64_t requests; /* owed an answer */
} rw_stats;
#define RW_STATS_INIT {sizeof(rw_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/* Reads the figures; `stats->struct_size` has to be set. */
int32_t rw_stats_read(rw_engine engine, rw_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* RINGWAY_H */
