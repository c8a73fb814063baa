/*
 * A qemu-nbd of our own, which serves one image file to us: formats that ringer does not read by
 * itself.
 */
#ifndef RINGER_HOST_QEMU_NBD_H
#define RINGER_HOST_QEMU_NBD_H

#include <sys/types.h>

#include "base/error.h"

struct qemu_nbd {
    pid_t pid;
    int messages;   /* a file with what it said */
    int connection; /* a socket, the caller's */
};

/* Starts it. It ends when the connection is closed, and with the thread that called this. */
int qemu_nbd_start(const char *path, const char *format, bool read_only, struct qemu_nbd *server,
                   struct error *err);

/* What it last said, or `otherwise`. */
void qemu_nbd_message(const struct qemu_nbd *server, const char *otherwise, char *text,
                      size_t size);

/* The connection is closed: waits until the image is. */
void qemu_nbd_end(struct qemu_nbd *server);

#endif
