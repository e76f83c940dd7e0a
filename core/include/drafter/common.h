/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every part of drafter shares: errors, logging and a few constants.
 *
 * Conventions, for the core and for plugins alike:
 *
 *   - A function that can fail returns 0 or a negative errno.  Control operations take a
 *     struct drafter_error as their last parameter and fill it with a sentence an operator can act
 *     on; data-path operations return the errno alone and never allocate.
 *   - `ret_` parameters are written on success only.
 *   - A parameter is borrowed until the call returns unless its comment says otherwise.
 *   - All file descriptors are close-on-exec.
 */
#ifndef DRAFTER_COMMON_H
#define DRAFTER_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The unit in which presence, dirtiness and generations are kept: the x86-64 base page.  A device's
 * configured block size is only the largest piece in which it travels.
 */
#define DRAFTER_PAGE_SHIFT 12
#define DRAFTER_PAGE_SIZE ((size_t)1 << DRAFTER_PAGE_SHIFT)

/* Longest device, instance and VM name, without the terminating NUL. */
#define DRAFTER_NAME_MAX 63

/* Marks a function that plugins may call; everything else stays inside the program. */
#define DRAFTER_PUBLIC __attribute__((visibility("default")))
#define DRAFTER_PRINTF(string_, first_) __attribute__((format(printf, string_, first_)))

#define DRAFTER_ERROR_MAX 512

/*
 * A failure: an errno value and one sentence.  Zero-initialise it (`= {0}`); it owns nothing, so it
 * may be copied and dropped freely.  Use from one thread at a time.
 */
struct drafter_error {
    int code; /* positive errno value, 0 while nothing failed */
    char message[DRAFTER_ERROR_MAX];
};

/*
 * Records a failure and returns -code, so that a caller fails in one line:
 *     return drafter_error_set(err, ENOSPC, "%s: no room for the overlay", path);
 * `err` may be NULL.
 */
DRAFTER_PUBLIC int drafter_error_set(struct drafter_error *err, int code, const char *format, ...)
    DRAFTER_PRINTF(3, 4);

/* As drafter_error_set, and appends ": " and strerror(code). */
DRAFTER_PUBLIC int drafter_error_errno(struct drafter_error *err, int code, const char *format, ...)
    DRAFTER_PRINTF(3, 4);

/* Puts context in front of a recorded failure ("outer: inner") and returns -err->code. */
DRAFTER_PUBLIC int drafter_error_wrap(struct drafter_error *err, const char *format, ...)
    DRAFTER_PRINTF(2, 3);

enum drafter_log_level {
    DRAFTER_LOG_ERROR = 0,
    DRAFTER_LOG_WARNING = 1,
    DRAFTER_LOG_INFO = 2,
    DRAFTER_LOG_DEBUG = 3,
};

/*
 * Writes one log record.  `subject` names the part that speaks ("tcp", "device memory").  Any thread;
 * never call it on a data path at a level that is on by default.  A newline is not needed.
 */
DRAFTER_PUBLIC void drafter_log(enum drafter_log_level level, const char *subject, const char *format,
                                ...) DRAFTER_PRINTF(3, 4);

/* CLOCK_MONOTONIC in nanoseconds. */
DRAFTER_PUBLIC uint64_t drafter_now_ns(void);

#ifdef __cplusplus
}
#endif

#endif
