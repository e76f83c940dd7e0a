/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where log records go: human lines on a terminal, JSON lines otherwise or on request.  Data that a
 * user asked for goes to standard output; log records go to standard error.
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <drafter/common.h>

enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_HUMAN, LOG_FORMAT_JSON };

/* Call once, before other threads exist. */
void log_setup(enum log_format format, enum drafter_log_level level);

#define log_error(...) drafter_log(DRAFTER_LOG_ERROR, __VA_ARGS__)
#define log_warning(...) drafter_log(DRAFTER_LOG_WARNING, __VA_ARGS__)
#define log_info(...) drafter_log(DRAFTER_LOG_INFO, __VA_ARGS__)
#define log_debug(...) drafter_log(DRAFTER_LOG_DEBUG, __VA_ARGS__)

/*
 * An event that a program may wait for: one record with a name and further fields, given as a JSON
 * object text without braces ("\"vm\":\"redis\",\"ms\":12.5").  Human form: "name: fields".
 */
void log_event(const char *name, const char *format, ...) DRAFTER_PRINTF(2, 3);

#endif
