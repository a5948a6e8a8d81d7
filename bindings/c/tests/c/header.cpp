// The header is C++ as well, and its layouts are the same there.
#include "layout.c"
