// What the test programs share.
#include <ringway.hpp>

#include <cstdio>
#include <cstdlib>

// Not so: the program fails and says where.
#define HOLDS(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (0)

template <class T> T good(ringway::Result<T> result, int line)
{
    if (!result) {
        std::fprintf(stderr, "line %d: %s: %s\n", line, result.error().name(), result.error().text().c_str());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>)
        return std::move(*result);
}
#define GOOD(expression) good((expression), __LINE__)

inline rw_stats figures(const ringway::Engine &engine)
{
    rw_stats stats = RW_STATS_INIT;
    HOLDS(rw_stats_read(engine.id(), &stats) == RW_OK);
    return stats;
}
