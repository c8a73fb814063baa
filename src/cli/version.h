/*
 * ringer's version.
 */
#ifndef RINGER_CLI_VERSION_H
#define RINGER_CLI_VERSION_H

#define RINGER_VERSION "0.1.0"

#endif
