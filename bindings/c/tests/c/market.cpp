// The same in C++: what C99 asserts by an array, C++ asserts by a keyword.
#include "market.c"
