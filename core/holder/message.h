/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a drafter and its holder say to each other, over a UNIX socket of type SOCK_SEQPACKET: one
 * message is one packet, descriptors travel beside it.  Both run as one user on one host, from one
 * package or, across an upgrade, from two: `version` and the numbers below never change their meaning.
 *
 *     drafter                               holder
 *        | PUT name + descriptor               |   keeps it, in place of one of that name; no answer
 *        | DROP name                           |   forgets it; no answer
 *        | WORTH 1 or 0                        |   whether to wait for a successor; no answer
 *        | SPAWN words + descriptors           |
 *        |          ANSWER pid + its pidfd     |   the first error of a PUT, too, is told here
 *        | STATUS pid                          |
 *        |          ANSWER wait status         |   or -EAGAIN while it runs
 *        | END                                 |   kills its children, removes its socket and ends
 *        |          ANSWER                     |
 *
 *     a new drafter                         holder
 *        | ADOPT                               |   -EBUSY while the old one lives
 *        |          ENTRY name + descriptor    |   for each
 *        |          ANSWER pid of the old one  |
 *
 *     anybody of that user
 *        | WHO                                 |
 *        |          ANSWER pid of the drafter, count of adoptions
 */
#ifndef HOLDER_MESSAGE_H
#define HOLDER_MESSAGE_H

#include <stdint.h>

#define HOLDER_VERSION 1u
#define HOLDER_NAME_MAX 160
#define HOLDER_FDS_MAX 32
#define HOLDER_DATA_MAX 65536
#define HOLDER_ENTRIES_MAX 1024
#define HOLDER_SOCKET "holder.sock"
#define HOLDER_EPITAPH "vmm-exit" /* "STATUS\n": how the VMM ended while no drafter was there */

/* Descriptor numbers of a program that is started; what the holder itself uses lies above. */
#define HOLDER_TARGET_MAX 511

enum holder_op {
    HOLDER_PUT = 1,
    HOLDER_DROP = 2,
    HOLDER_ADOPT = 3,
    HOLDER_ENTRY = 4,
    HOLDER_SPAWN = 5,
    HOLDER_STATUS = 6,
    HOLDER_END = 7,
    HOLDER_WHO = 8,
    HOLDER_ANSWER = 9,
    HOLDER_WORTH = 10,
};

/* SPAWN: `data` holds words that each end with a NUL: the namespace's path or "", then the arguments. */
struct holder_message {
    uint32_t version;
    uint32_t op;
    int32_t result; /* ANSWER: 0 or a negative errno; `data` may say more */
    int32_t pid;
    int32_t value;   /* ANSWER: a wait status, or a count of adoptions; WORTH */
    uint32_t length; /* of `data` */
    uint32_t fd_count;
    int32_t targets[HOLDER_FDS_MAX]; /* SPAWN: the number of each descriptor in the program */
    char name[HOLDER_NAME_MAX];
};

#endif
