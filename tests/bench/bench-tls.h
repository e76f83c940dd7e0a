/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stdint.h>

/* Says why and ends the benchmark. */
void bench_die(const char *what, const char *why) __attribute__((noreturn));

/*
 * MB per second of processor time that OpenSSL takes, from a thread that sends to one that receives, over TCP on the
 * loopback: TLS 1.3 with this cipher suite and this key, in calls of 1 MiB, reading ahead as far as it can.
 */
double bench_openssl(const char *suite, const char *key, const char *certificate, uint64_t bytes);

/* Processor time that this process has used. */
uint64_t bench_cpu_ns(void);

#endif
