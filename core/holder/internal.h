/* SPDX-License-Identifier: BSD-2-Clause */
/* What holder.c and start.c share. */
#ifndef HOLDER_INTERNAL_H
#define HOLDER_INTERNAL_H

#include "holder/holder.h"
#include "holder/packet.h"
#include <pthread.h>

struct holder_left {
    char name[HOLDER_NAME_MAX];
    int fd;
};

struct holder {
    /* Constant between start or adopt and end: */
    int socket; /* -1: there is none */
    bool adopted;
    pid_t pid; /* of a holder that this process started, to be reaped; 0 */
    struct holder_left *left; /* what a dead drafter left */
    unsigned left_count;

    pthread_t starter;
    bool starting;
    struct holder_launch *launch; /* the starter's until it is joined */

    pthread_mutex_t lock; /* one conversation at a time; held while the holder answers */
    struct holder_packet *packet; /* lock */
};

/* Under `lock`.  There never was one (which was logged): from here on it keeps nothing. */
bool holder_failed_to_start(struct holder *holder);
int holder_say_end(struct holder *holder);

#endif
