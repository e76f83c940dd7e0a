/* SPDX-License-Identifier: BSD-2-Clause */
/* A relay as a child process between two ends that both live in the test. */
#ifndef RELAY_FIXTURE_H
#define RELAY_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A busy machine delays us as well: the best run tells what the relay does. */
#define ATTEMPTS 12

struct fixture {
    pid_t pid;
    int target;      /* where the relay connects to */
    int control;     /* its control socket */
    char dir[64];    /* holds the sockets */
    char listen[96]; /* as announced, without "tcp:" or "unix:" */
};

struct pair {
    int client, server;
};

enum family { IPV4, IPV6, LOCAL };

void fixture_start(struct fixture *fixture, enum family family, char *const options[]);
int fixture_stop(struct fixture *fixture); /* by SIGTERM; returns the wait status */
struct pair fixture_connect(struct fixture *fixture);
int fixture_dial(struct fixture *fixture);
void pair_close(struct pair *pair);
void command(struct fixture *fixture, const char *line, const char *expected);
double stat_number(struct fixture *fixture, const char *section, const char *key);

double now_ms(void);
void send_all(int fd, const void *data, size_t size);
size_t receive(int fd, void *data, size_t size,
               int timeout_ms); /* less than size: end, error or silence */
bool readable_within(int fd, int timeout_ms);
/* Moves size bytes of a pattern over n pairs at once, checks them, returns the ms it took. */
double transfer(const struct pair *pairs, int n, size_t size);

#endif
