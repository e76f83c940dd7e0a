/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket of a node, as every role has it that runs until it is told to end.  A role with a VM answers by
 * itself; of the others there is little to say, and they end as on SIGTERM.
 */
#ifndef ROLE_ATTEND_H
#define ROLE_ATTEND_H

#include "control/control.h"
#include "role/node.h"

/* Name, role, state and process. */
void attend_describe(const struct node *node, const char *state, json_t *answer);

/* Listens, and logs where; a node that cannot is of use all the same, so that is a warning and NULL. */
struct control *attend_start(const struct node *node, const struct control_ops *ops);

/* A role without a VM: `status` adds to what attend_describe says, from any thread, until attendant_stop. */
struct attendant {
    const struct node *node;
    void (*status)(void *opaque, json_t *answer);
    void *opaque;
    struct control *control;
};

void attendant_start(struct attendant *attendant);
void attendant_stop(struct attendant *attendant);

#endif
