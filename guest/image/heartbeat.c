/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Beats on the console every heartbeat_us=N microseconds of the kernel's command line (which hands
 * unknown words to init's environment) and does nothing without it: the lines of the bare-metal
 * test guest, "HB SEQ 0 TSC", so that the same tool measures how long this guest stood still.
 *
 * A beat that was missed is not made up for.  The serial port's queue is short, and whoever reads it
 * may be gone: what does not fit is dropped, and a newline goes ahead of the next line.
 */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define CONSOLE "/dev/ttyS0"
#define PERIOD_MIN_US 500

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t time_ns)
{
    struct timespec until = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void beat_for_ever(int console, int64_t period_ns)
{
    int64_t next = now_ns();
    int torn = 1; /* the first line may follow half of another */

    for (unsigned long long seq = 1;; seq++) {
        char line[64];
        int length = snprintf(line, sizeof(line), "%sHB %llu 0 %llu\n", torn ? "\n" : "", seq,
                              (unsigned long long)__rdtsc());

        torn = write(console, line, (size_t)length) != length;
        next += period_ns;
        if (next < now_ns())
            next = now_ns() + period_ns;
        sleep_until(next);
    }
}

int main(void)
{
    const struct sched_param first = {.sched_priority = 1};
    const char *text = getenv("heartbeat_us");
    long period_us = text ? strtol(text, NULL, 10) : 0;
    struct termios settings;
    int console;

    if (period_us <= 0)
        return 0;
    if (period_us < PERIOD_MIN_US)
        period_us = PERIOD_MIN_US;
    console = open(CONSOLE, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (console < 0)
        return 1;
    if (tcgetattr(console, &settings) == 0) {
        settings.c_oflag &= ~(tcflag_t)OPOST;
        tcsetattr(console, TCSANOW, &settings);
    }
    /* What is measured is the host, not how busy the guest is. */
    sched_setscheduler(0, SCHED_FIFO, &first);
    mlockall(MCL_CURRENT | MCL_FUTURE);
    beat_for_ever(console, period_us * 1000);
}
