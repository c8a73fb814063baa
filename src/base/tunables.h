/*
 * Thresholds as compile-time constants, made from tunables.def: TUNE_<identifier>.
 */
#ifndef RINGER_BASE_TUNABLES_H
#define RINGER_BASE_TUNABLES_H

enum tunable {
#define TUNABLE(id, value, why) TUNE_##id = (value),
#include "base/tunables.def"
#undef TUNABLE
};

#ifdef TUNE_ALL_HOT /* a build for tests */
#define TUNE_BT_HOT 0
#endif

#endif
