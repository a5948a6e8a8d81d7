/* What the key-value examples share: their messages (examples/services/proto/kv.proto) in the format of protobuf, as far
 * as these need it. A program with many messages would take a library for that (nanopb, protobuf-c, upb). */
#include <ringway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
    const unsigned char *data;
    size_t len;
};

/* A message that is being written. */
struct out {
    unsigned char data[512];
    size_t len;
    int full;
};

static inline void put_byte(struct out *out, unsigned char byte)
{
    if (out->len < sizeof out->data)
        out->data[out->len++] = byte;
    else
        out->full = 1;
}

static inline void put_number(struct out *out, uint64_t number)
{
    for (; number > 127; number >>= 7)
        put_byte(out, (unsigned char)(number | 128));
    put_byte(out, (unsigned char)number);
}

/* A field of bytes or text. */
static inline void put_bytes(struct out *out, unsigned field, struct text bytes)
{
    size_t at;
    put_number(out, field << 3 | 2);
    put_number(out, bytes.len);
    for (at = 0; at < bytes.len; at++)
        put_byte(out, bytes.data[at]);
}

/* A field with a number. */
static inline void put_field(struct out *out, unsigned field, uint64_t number)
{
    put_number(out, field << 3);
    put_number(out, number);
}

static inline int take_number(struct text *from, uint64_t *number)
{
    unsigned shift;
    *number = 0;
    for (shift = 0; shift < 64 && from->len > 0; shift += 7) {
        unsigned char byte = *from->data++;
        from->len--;
        *number |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return 1;
    }
    return 0;
}

/* Takes the next field: its number, and its bytes or its value. 0: there is none, or what is there is malformed. */
static inline int take_field(struct text *from, unsigned *field, struct text *bytes, uint64_t *number)
{
    uint64_t key, len;
    bytes->data = NULL;
    bytes->len = 0;
    *number = 0;
    if (!take_number(from, &key))
        return 0;
    *field = (unsigned)(key >> 3);
    if ((key & 7) == 0)
        return take_number(from, number);
    if ((key & 7) != 2 || !take_number(from, &len) || len > from->len)
        return 0;
    bytes->data = from->data;
    bytes->len = (size_t)len;
    from->data += len;
    from->len -= (size_t)len;
    return 1;
}

static inline struct text text_of(const char *text)
{
    struct text of;
    of.data = (const unsigned char *)text;
    of.len = strlen(text);
    return of;
}

static inline int fail(const char *what, int32_t status)
{
    char text[256];
    size_t len = 0;
    rw_last_error(text, sizeof text, &len);
    if (len > sizeof text)
        len = sizeof text;
    fprintf(stderr, "%s: %s: %.*s\n", what, rw_status_name(status), (int)len, text);
    return 1;
}
