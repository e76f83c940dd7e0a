/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stdint.h>

/* Says why and ends the benchmark. */
void bench_die(const char *what, const char *why) __attribute__((noreturn));

/*
 * MB/s of OpenSSL from a thread that sends to one that receives, over TCP on the loopback: TLS 1.3 with this
 * cipher suite and this key, in calls of 1 MiB, reading ahead as far as it can.
 */
double bench_openssl(const char *suite, const char *key, const char *certificate, uint64_t bytes);

#endif
