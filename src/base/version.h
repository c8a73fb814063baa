/*
 * ringer's version.
 */
#ifndef RINGER_BASE_VERSION_H
#define RINGER_BASE_VERSION_H

#define RINGER_VERSION "0.1.0"

#endif
