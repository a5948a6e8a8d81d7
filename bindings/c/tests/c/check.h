/* What the test programs share. */
#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The expression gives this status, or the program fails and says where. */
#define GIVES(wanted, expression)                                                                    \
    do {                                                                                             \
        int32_t status_ = (expression);                                                              \
        if (status_ != (wanted)) {                                                                   \
            char text_[256];                                                                         \
            size_t len_ = 0;                                                                         \
            rw_last_error(text_, sizeof text_, &len_);                                               \
            len_ = len_ < sizeof text_ ? len_ : sizeof text_;                                        \
            fprintf(stderr, "%s:%d: %s gives %s (%.*s), not %s\n", __FILE__, __LINE__, #expression,  \
                    rw_status_name(status_), (int)len_, text_, rw_status_name(wanted));              \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

#define HOLDS(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                  \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

/* Whether the text of the last failure has these words. */
static inline int says(const char *words)
{
    char text[256];
    size_t len = 0;
    GIVES(RW_OK, rw_last_error(text, sizeof text - 1, &len));
    text[len < sizeof text ? len : sizeof text - 1] = 0;
    return strstr(text, words) != NULL;
}

/* The next event of this kind; leases of others are given back. */
static inline rw_event next(rw_engine engine, uint32_t kind)
{
    for (;;) {
        rw_event event;
        uint32_t count;
        GIVES(RW_OK, rw_poll(engine, &event, 1, &count, -1));
        if (event.kind == kind)
            return event;
        if (event.lease != 0)
            GIVES(RW_OK, rw_release(engine, event.lease));
    }
}
