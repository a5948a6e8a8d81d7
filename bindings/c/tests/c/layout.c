/* The layouts that the library was built with, and what names stand for. C and C++ have to agree with it. */
#include "check.h"

#define AT(type, field, offset) HOLDS(offsetof(type, field) == (offset))

int main(void)
{
    HOLDS(sizeof(void *) == 8);
    HOLDS(sizeof(rw_engine_config) == 56);
    AT(rw_engine_config, struct_size, 0);
    AT(rw_engine_config, driver, 4);
    AT(rw_engine_config, idle, 8);
    AT(rw_engine_config, message_bytes_max, 12);
    AT(rw_engine_config, spin_ns, 16);
    AT(rw_engine_config, connect_timeout_ns, 24);
    AT(rw_engine_config, budget_bytes, 32);
    AT(rw_engine_config, queue_bytes_max, 40);
    AT(rw_engine_config, connections_max, 48);
    AT(rw_engine_config, leases_max, 52);

    HOLDS(sizeof(rw_event) == 64);
    AT(rw_event, kind, 0);
    AT(rw_event, status, 4);
    AT(rw_event, id, 8);
    AT(rw_event, user, 16);
    AT(rw_event, data, 24);
    AT(rw_event, len, 32);
    AT(rw_event, lease, 40);
    AT(rw_event, method, 48);
    AT(rw_event, tag, 52);
    AT(rw_event, flags, 54);
    AT(rw_event, message_kind, 55);
    AT(rw_event, word, 56);

    HOLDS(sizeof(rw_buf) == 24);
    AT(rw_buf, data, 0);
    AT(rw_buf, len, 8);
    AT(rw_buf, lease, 16);

    HOLDS(sizeof(rw_call_options) == 48);
    AT(rw_call_options, struct_size, 0);
    AT(rw_call_options, flags, 4);
    AT(rw_call_options, timeout_ns, 8);
    AT(rw_call_options, metadata, 16);
    AT(rw_call_options, metadata_len, 24);
    AT(rw_call_options, lease, 32);
    AT(rw_call_options, priority, 40);
    AT(rw_call_options, reserved, 44);

    HOLDS(sizeof(rw_method) == 32);
    AT(rw_method, name, 0);
    AT(rw_method, name_len, 8);
    AT(rw_method, kind, 16);
    AT(rw_method, schema, 20);
    AT(rw_method, codec, 24);
    AT(rw_method, idempotent, 25);
    AT(rw_method, reserved, 26);

    HOLDS(sizeof(rw_request_details) == 32);
    AT(rw_request_details, metadata, 0);
    AT(rw_request_details, metadata_len, 8);
    AT(rw_request_details, timeout_ns, 16);
    AT(rw_request_details, priority, 24);
    AT(rw_request_details, attempt, 25);
    AT(rw_request_details, idempotent, 26);
    AT(rw_request_details, reserved, 27);

    HOLDS(sizeof(rw_stats) == 80);
    AT(rw_stats, struct_size, 0);
    AT(rw_stats, reserved, 4);
    AT(rw_stats, turns, 8);
    AT(rw_stats, messages_in, 16);
    AT(rw_stats, messages_out, 24);
    AT(rw_stats, connections, 32);
    AT(rw_stats, budget_used, 40);
    AT(rw_stats, copies, 48);
    AT(rw_stats, leases, 56);
    AT(rw_stats, calls, 64);
    AT(rw_stats, requests, 72);

    HOLDS(sizeof(rw_threads_config) == 32);
    AT(rw_threads_config, struct_size, 0);
    AT(rw_threads_config, count, 4);
    AT(rw_threads_config, cores, 8);
    AT(rw_threads_config, cores_count, 16);
    AT(rw_threads_config, events_max, 20);
    AT(rw_threads_config, engine, 24);

    HOLDS(sizeof(rw_thread_event) == 72);
    AT(rw_thread_event, engine, 0);
    AT(rw_thread_event, event, 8);

    HOLDS(rw_abi_version() == (RW_ABI_MAJOR << 16 | RW_ABI_MINOR));
    HOLDS(strcmp(rw_version(), "0.1.0") == 0);
#define NAMED(status) HOLDS(strcmp(rw_status_name(status), #status) == 0)
    NAMED(RW_OK);
    NAMED(RW_AGAIN);
    NAMED(RW_E_INVALID);
    NAMED(RW_E_STALE);
    NAMED(RW_E_FULL);
    NAMED(RW_E_TOO_LONG);
    NAMED(RW_E_NOT_OPEN);
    NAMED(RW_E_CLOSED);
    NAMED(RW_E_ADDRESS);
    NAMED(RW_E_SYSTEM);
    NAMED(RW_E_LIMIT);
    NAMED(RW_E_BUSY);
    NAMED(RW_E_THREAD);
    NAMED(RW_E_FORK);
    NAMED(RW_E_STATE);
    NAMED(RW_E_PANIC);
    NAMED(RW_E_UNAVAILABLE);
    NAMED(RW_E_REFUSED);
    HOLDS(strcmp(rw_status_name(77), "RW_UNKNOWN") == 0);
#define CODE(name) HOLDS(strcmp(rw_code_name(RW_CODE_##name), #name) == 0)
    CODE(OK);
    CODE(CANCELLED);
    CODE(UNKNOWN);
    CODE(INVALID_ARGUMENT);
    CODE(DEADLINE_EXCEEDED);
    CODE(NOT_FOUND);
    CODE(ALREADY_EXISTS);
    CODE(PERMISSION_DENIED);
    CODE(RESOURCE_EXHAUSTED);
    CODE(FAILED_PRECONDITION);
    CODE(ABORTED);
    CODE(OUT_OF_RANGE);
    CODE(UNIMPLEMENTED);
    CODE(INTERNAL);
    CODE(UNAVAILABLE);
    CODE(DATA_LOSS);
    CODE(UNAUTHENTICATED);
    return 0;
}
