/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE 1
#include "renew.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SEED_MAX 64
#define SEED_ENOUGH 32

/* Not in the headers of old kernels, which have none of it and answer EINVAL. */
#ifndef RNDRESEEDCRNG
#define RNDRESEEDCRNG _IO('R', 0x07)
#endif

int renew_clock(int64_t host_ns, int64_t *ret_skew_ns)
{
    struct timespec now, host = {.tv_sec = host_ns / 1000000000, .tv_nsec = host_ns % 1000000000};

    clock_gettime(CLOCK_REALTIME, &now);
    *ret_skew_ns = host_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    return clock_settime(CLOCK_REALTIME, &host) == 0 ? 0 : errno;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Number of bytes; 0 when it is anything but bytes in hexadecimal. */
static size_t decode(const char *hex, size_t length, unsigned char *bytes)
{
    if (length % 2 || length / 2 > SEED_MAX)
        return 0;
    for (size_t i = 0; i < length / 2; i++) {
        int high = digit(hex[i * 2]), low = digit(hex[i * 2 + 1]);

        if (high < 0 || low < 0)
            return 0;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return length / 2;
}

static void stir_instant(int fd)
{
    struct timespec clocks[2];

    clock_gettime(CLOCK_REALTIME, &clocks[0]);
    clock_gettime(CLOCK_MONOTONIC_RAW, &clocks[1]);
    if (write(fd, clocks, sizeof(clocks)) < 0) /* it helps where the host gives nothing, no more */
        return;
}

bool renew_entropy(const char *hex, size_t length)
{
    struct {
        struct rand_pool_info info;
        unsigned char bytes[SEED_MAX];
    } pool;
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    size_t count = decode(hex, length, pool.bytes);
    bool taken = false;

    if (fd < 0)
        return false;
    stir_instant(fd);
    if (count >= SEED_ENOUGH) {
        pool.info.entropy_count = (int)count * 8;
        pool.info.buf_size = (int)count;
        taken = ioctl(fd, RNDADDENTROPY, &pool) == 0;
    }
    if (ioctl(fd, RNDRESEEDCRNG) < 0) /* needs a right; without it the kernel does so within minutes */
        taken = false;
    close(fd);
    explicit_bzero(&pool, sizeof(pool));
    return taken;
}
