/*
 * The functions of all tests, from the list that the program has them from, too.
 */
#ifndef GUEST_NANO_TESTS_H
#define GUEST_NANO_TESTS_H

#define NANO_BENCH(fn, name, what) void bench_##fn(void);
#define NANO_CHECK(fn, name, what) void check_##fn(void);
#include "cli/nano_tests.def"
#undef NANO_BENCH
#undef NANO_CHECK

#endif
