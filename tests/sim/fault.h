/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The steps of the protocol, the faults, and which fault can strike at which step: the one table that
 * plans are drawn from and that coverage is counted against.
 */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* In the order of a session; R: of a pull from a registry. */
#define SIM_STEPS(STEP)                                                                            \
    STEP(S0, "connect")                                                                            \
    STEP(S1, "greeting")                                                                           \
    STEP(S2, "preflight")                                                                          \
    STEP(S3, "acceptance and hashes")                                                              \
    STEP(S4, "first pass")                                                                         \
    STEP(S5, "a later pass")                                                                       \
    STEP(S6, "hook before the suspend")                                                            \
    STEP(S7, "paused")                                                                             \
    STEP(S8, "state saved")                                                                        \
    STEP(S9, "final pages listed")                                                                 \
    STEP(S10, "RELINQUISHED durable")                                                              \
    STEP(S11, "COMMIT sent")                                                                       \
    STEP(S12, "owned at the destination, durable")                                                 \
    STEP(S13, "loaded")                                                                            \
    STEP(S14, "resumed")                                                                           \
    STEP(S15, "hook after the resume")                                                             \
    STEP(S16, "pages after the hand-over")                                                         \
    STEP(S17, "everything durable")                                                                \
    STEP(S18, "COMPLETE and DONE")                                                                 \
    STEP(S19, "the source cleans up")                                                              \
    STEP(R0, "connect to a registry")                                                              \
    STEP(R1, "greeting")                                                                           \
    STEP(R2, "manifest")                                                                           \
    STEP(R3, "chunks")                                                                             \
    STEP(R4, "proof")                                                                              \
    STEP(R5, "everything durable")                                                                 \
    STEP(R6, "the registry cleans up")

#define S_BIT(n_) (UINT64_C(1) << (n_))
#define R_BIT(n_) (UINT64_C(1) << (20 + (n_)))
#define S_RANGE(a_, b_) ((S_BIT((b_) + 1) - 1) & ~(S_BIT(a_) - 1))
#define R_RANGE(a_, b_) ((R_BIT((b_) + 1) - 1) & ~(R_BIT(a_) - 1))

/* Name, steps, what happens.  In brackets the number of the fault in the project's list. */
#define SIM_FAULTS(FAULT)                                                                          \
    FAULT(KILL_SOURCE, S_RANGE(0, 19) | R_RANGE(0, 5), "the source's process is killed")           \
    FAULT(KILL_DESTINATION, S_RANGE(0, 18) | R_RANGE(0, 5), "the destination's process is killed") \
    FAULT(VMM_SOURCE, S_RANGE(0, 18), "the source's VMM dies")                                     \
    FAULT(VMM_DESTINATION, S_RANGE(4, 18), "the destination's VMM dies")                           \
    FAULT(VMM_ERROR, S_BIT(3) | S_BIT(6) | S_BIT(7) | S_BIT(12) | S_BIT(13),                       \
          "a VMM says no")                                                                         \
    FAULT(HOOK, S_BIT(6) | S_BIT(15), "the guest's agent is silent")                               \
    FAULT(POWER_SOURCE, S_RANGE(0, 19) | R_RANGE(0, 5), "the source loses power")                  \
    FAULT(POWER_DESTINATION, S_RANGE(0, 18) | R_RANGE(0, 5), "the destination loses power")        \
    FAULT(POWER_BOTH, S_RANGE(7, 18), "both nodes lose power")                                     \
    FAULT(CUT, S_RANGE(0, 18) | R_RANGE(0, 5), "the link is cut")                                  \
    FAULT(STALL, S_RANGE(0, 18) | R_RANGE(0, 5), "the link stalls, and nobody is told")            \
    FAULT(SLOW, S_RANGE(0, 18) | R_RANGE(0, 5), "the link is slow and jitters")                    \
    FAULT(DEAF_SOURCE, S_RANGE(9, 14) | S_BIT(16), "nothing gets to the source")                   \
    FAULT(DEAF_DESTINATION, S_RANGE(9, 14) | S_BIT(16), "nothing gets to the destination")         \
    FAULT(FLIP, S_RANGE(0, 18) | R_RANGE(0, 5), "a bit flips")                                     \
    FAULT(TRUNCATE, S_RANGE(0, 18) | R_RANGE(0, 5), "a byte gets lost")                            \
    FAULT(DUPLICATE, S_RANGE(0, 18) | R_RANGE(0, 5), "bytes arrive twice")                         \
    FAULT(DELAY_ONE, S_RANGE(4, 18) | R_RANGE(3, 4), "one of the connections lags 5 s behind")     \
    FAULT(IMPOSTOR, S_RANGE(0, 18) | R_RANGE(0, 5), "somebody uses a wrong or an old token")       \
    FAULT(HOSTILE, S_RANGE(0, 18) | R_RANGE(0, 5), "somebody sends nonsense")                      \
    FAULT(VERSION, S_RANGE(0, 3) | R_RANGE(0, 2), "a peer of another version connects")            \
    FAULT(BASE_MISMATCH, S_BIT(2), "the destination's base differs in a page")                     \
    FAULT(DISK_FULL, S_RANGE(2, 18) | R_RANGE(2, 3), "a disk is full")                             \
    FAULT(DISK_READ, S_RANGE(0, 18) | R_RANGE(0, 4), "a read fails")                               \
    FAULT(DISK_WRITE, S_RANGE(0, 17) | R_RANGE(0, 4), "a write fails")                             \
    FAULT(DISK_SYNC, S_RANGE(0, 16) | R_RANGE(0, 4), "a sync fails, once")                         \
    FAULT(MEMORY, S_RANGE(0, 18) | R_RANGE(0, 5), "an allocation fails")                           \
    FAULT(RESOURCES, S_RANGE(0, 17) | R_RANGE(0, 4), "no thread or descriptor is left")            \
    FAULT(CLOCK, S_RANGE(0, 18) | R_RANGE(0, 5), "a wall clock jumps by up to a year")             \
    FAULT(FREEZE_SOURCE, S_RANGE(0, 18) | R_RANGE(0, 5), "the source stands still for 30 s")       \
    FAULT(FREEZE_DESTINATION, S_RANGE(0, 18) | R_RANGE(0, 5),                                      \
          "the destination stands still for 30 s")                                                 \
    FAULT(CANCEL_SOURCE, S_RANGE(0, 18) | R_RANGE(0, 5), "the source's operator cancels")          \
    FAULT(CANCEL_DESTINATION, S_RANGE(0, 18) | R_RANGE(0, 5), "the destination's operator cancels") \
    FAULT(SECOND_PULLER, S_RANGE(0, 18) | R_RANGE(0, 5), "another node wants the VM, too")

enum fault {
#define FAULT(name_, steps_, what_) FAULT_##name_,
    SIM_FAULTS(FAULT)
#undef FAULT
        FAULT_COUNT
};

#define FAULT_STEPS_MAX 32

/* Hits of each pair, shared by the processes that play seeds. */
extern uint32_t (*fault_coverage)[FAULT_STEPS_MAX];

void fault_plan(uint64_t seed); /* draws what shall happen in this world */
void fault_reset(void);

/* A step was reached: true when a fault is due, which fault_strike then does (not in a fiber). */
bool fault_is_due(unsigned step);
void fault_strike(void);
uint64_t fault_next(void); /* when the next one that is due strikes, or UINT64_MAX */

/* Is this the operation of the node that an armed fault makes fail? */
bool fault_takes(int node, enum fault fault, const char *what);

/* A fault that was armed has struck. */
void fault_struck(enum fault fault, const char *what);

/* Nothing new happens from here on, and what is broken works again. */
void fault_heal(void);

unsigned fault_pairs(void);
void fault_print_coverage(bool all);
unsigned fault_missing(void); /* pairs that were never hit, printed */
const char *fault_name(enum fault fault);
const char *step_name(unsigned step);

#endif
