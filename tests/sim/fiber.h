/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads of the simulation: coroutines on stacks of their own, of which one runs at a time and gives
 * way only where it waits or yields.  Which one goes on is drawn from the seed, and time passes when
 * none can go on, so that a run is a function of its seed.
 *
 * A fiber belongs to a node.  A node that is killed loses all its fibers where they stand.
 */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

#include <stdbool.h>
#include <stdint.h>

#define FIBER_WORLD (-1) /* the node of fibers that no crash ends */
#define FIBER_NEVER UINT64_MAX

struct fiber;

/* Once per process, and between seeds: every fiber is gone. */
void fiber_setup(void);
void fiber_reset(void);

/* NULL when there are too many.  A detached fiber needs no join. */
struct fiber *fiber_start(int node, const char *name, bool detached, void *(*run)(void *), void *opaque);
void *fiber_join(struct fiber *fiber);
struct fiber *fiber_by_number(unsigned number); /* from 1 */
unsigned fiber_number(const struct fiber *fiber);

struct fiber *fiber_self(void); /* NULL in the loop that runs them */
int fiber_node(void);           /* of the running fiber */
const char *fiber_name(void);

/* Waits until fiber_wake(object) or the deadline (simulated ns): false when that passed. */
bool fiber_wait(const void *object, uint64_t deadline);
void fiber_wake(const void *object);
void fiber_sleep(uint64_t ns);
void fiber_yield(void);       /* others first */
void fiber_maybe_yield(void); /* as often as the seed likes */

/* Ends all fibers of a node; not from one of them. */
void fiber_kill_node(int node);

/* A node whose fibers do not run until then. */
void fiber_freeze_node(int node, uint64_t until);
bool fiber_is_frozen(int node);
uint64_t fiber_frozen_until(int node); /* now or lately; 0: never */
unsigned fiber_count(int node);

/*
 * Runs one fiber until it gives way, after letting time pass to the next deadline, but not beyond
 * `limit`, if none can go on.  False: time is at the limit and none can.
 */
bool fiber_run_one(uint64_t limit);

/* What each fiber waits for, for a trace. */
void fiber_dump(void (*print)(const char *format, ...) __attribute__((format(printf, 1, 2))));

#endif
