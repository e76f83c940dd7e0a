/* SPDX-License-Identifier: BSD-2-Clause */
/* What the conformance programs of all plugin kinds share. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "plugin/plugin.h"
#include "util/cleanup.h"
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* How late a wait may end; the best of CONFORMANCE_ATTEMPTS counts, for the machine may be busy. */
#define CONFORMANCE_LATE_MS 50
#define CONFORMANCE_ATTEMPTS 5

/*
 * Whether the plugin can be tested: it was built, and CONFORMANCE_ONLY does not leave it out.  Prints
 * why not; exits with a failure when CONFORMANCE_REQUIRE names it and it cannot be loaded.
 */
bool conformance_available(enum drafter_kind kind, const char *plugin);

/*
 * An instance on the defaults, changed by `overrides` (key, value, ..., NULL; may be NULL).  Fails the
 * test when there is none.
 */
struct instance *conformance_instance(enum drafter_kind kind, const char *plugin,
                                      const char *const *overrides);

/* As above, expects that it cannot be made: the result, with the message in `err`. */
int conformance_refused(enum drafter_kind kind, const char *plugin, const char *const *overrides,
                        struct drafter_error *err);

/* A directory for this program, made at the first call and removed when it ends. */
const char *conformance_directory(void);

/* "directory/name" in a static buffer of this thread. */
const char *conformance_path(const char *name);

unsigned conformance_open_fds(void);
uint64_t conformance_now_ms(void);
void conformance_sleep_ms(unsigned ms);

/* Reproducible bytes: stream `seed`, starting at `offset`. */
void conformance_fill(void *buffer, size_t length, uint64_t seed, uint64_t offset);
bool conformance_matches(const void *buffer, size_t length, uint64_t seed, uint64_t offset);

pthread_t conformance_thread(void *(*run)(void *), void *argument);
void *conformance_join(pthread_t thread);

/* 0 or an error with `fragment` in its message (letters' case matters). */
void conformance_expect_error(int rc, int code, const struct drafter_error *err,
                              const char *fragment);

/* Runs the suite: the exit status, 77 when `available` is 0. */
int conformance_run(Suite *suite, unsigned available);

#endif
