/* SPDX-License-Identifier: BSD-2-Clause */
/* How a program in the guest reaches the host: a virtio-serial port, or a vsock connection. */
#ifndef GUEST_COMMON_CHANNEL_H
#define GUEST_COMMON_CHANNEL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Finds the device node of the virtio-serial port of this name, through udev's link or, in guests
 * without udev, through sysfs. Returns false when there is no such port.
 */
bool channel_find_port(const char *name, char *ret_path, size_t size);

/* Opens a port (or any character device; a terminal is made raw). Returns an fd or -errno. */
int channel_open_port(const char *path);

/* Connects to the host (CID 2). Returns an fd or -errno. */
int channel_dial_vsock(uint32_t port, int64_t timeout_ms);

/* Writes all or returns -errno; -ETIMEDOUT when the other end takes nothing for so long. */
int channel_write(int fd, const char *bytes, size_t length, int timeout_ms);

/* Go's notation, which the original's flags have: 1m, 90s, 1m30s, 500ms, 1.5h. */
bool channel_parse_duration(const char *text, int64_t *ret_ms);

int64_t channel_now_ms(void);

#endif
