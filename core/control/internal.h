/* SPDX-License-Identifier: BSD-2-Clause */
/* What both ends of the control socket share. */
#ifndef CONTROL_INTERNAL_H
#define CONTROL_INTERNAL_H

#include "control/control.h"

#include <sys/un.h>

/* The address of a node's socket; a directory may be longer than an address, hence its descriptor. */
int control_address(const char *run_directory, const char *name, struct sockaddr_un *ret_address,
                    int *ret_directory, struct drafter_error *err);

/* Reads one line without its end: its length, 0 at the end of the stream, or a negative errno. */
ssize_t control_read_line(int fd, char *line, size_t size);
int control_write_line(int fd, const json_t *object);

#endif
