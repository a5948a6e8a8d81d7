// The header is C++ as well, and its layouts are the same there.
#include <ringway.h>

static_assert(sizeof(rw_event) == 64, "events are one cache line");

int main()
{
    return rw_abi_version() >> 16 == RW_ABI_MAJOR ? 0 : 1;
}
