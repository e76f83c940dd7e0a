/* SPDX-License-Identifier: BSD-2-Clause */
#include "fiber.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define FIBERS_MAX 160
#define STACK_SIZE (512 << 10)
#define STEP_NS 300 /* what a turn takes */

enum fiber_state { FIBER_FREE, FIBER_READY, FIBER_WAITING, FIBER_ENDED };

struct fiber {
    enum fiber_state state;
    int node;
    bool detached, timed_out;
    const char *name;
    void *(*run)(void *);
    void *opaque, *result;
    const void *object;
    uint64_t deadline;
    char *stack;
#if defined(__x86_64__)
    void *stack_pointer;
#else
    ucontext_t context;
#endif
};

static struct fiber fibers[FIBERS_MAX];
static unsigned fibers_used; /* all beyond are free */
static struct fiber *current;
static uint64_t frozen_until[SIM_NODES];

#if defined(__x86_64__)
static void *loop_pointer;

void sim_switch(void **save, void *load);
__asm__(".text\n"
        ".globl sim_switch\n"
        ".type sim_switch,@function\n"
        "sim_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n"
        "    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n"
        "    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size sim_switch,.-sim_switch\n");
#else
static ucontext_t loop_context;
#endif

#ifdef __SANITIZE_ADDRESS__
static const void *loop_stack;
static size_t loop_stack_size;
#endif

static void switch_to_loop(bool last)
{
    struct fiber *self = current;
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;

    __sanitizer_start_switch_fiber(last ? NULL : &fake, loop_stack, loop_stack_size);
#else
    (void)last;
#endif
#if defined(__x86_64__)
    sim_switch(&self->stack_pointer, loop_pointer);
#else
    swapcontext(&self->context, &loop_context);
#endif
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &loop_stack, &loop_stack_size);
#endif
}

static void switch_to(struct fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake = NULL;

    __sanitizer_start_switch_fiber(&fake, fiber->stack, STACK_SIZE);
#endif
    current = fiber;
#if defined(__x86_64__)
    sim_switch(&loop_pointer, fiber->stack_pointer);
#else
    swapcontext(&loop_context, &fiber->context);
#endif
    current = NULL;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
}

static void fiber_main(void)
{
    struct fiber *self = current;

#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &loop_stack, &loop_stack_size);
#endif
    self->result = self->run(self->opaque);
    self->state = self->detached ? FIBER_FREE : FIBER_ENDED;
    fiber_wake(self);
    switch_to_loop(true);
}

static void prepare_stack(struct fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber->stack, STACK_SIZE);
#endif
#if defined(__x86_64__)
    void **top = (void **)(fiber->stack + STACK_SIZE - 56);

    top[0] = NULL; /* the stack is aligned as behind a call */
    *--top = (void *)fiber_main;
    for (unsigned i = 0; i < 6; i++)
        *--top = NULL;
    fiber->stack_pointer = top;
#else
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_SIZE;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, fiber_main, 0);
#endif
}

void fiber_setup(void)
{
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, FIBERS_MAX * (STACK_SIZE + guard), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        sim_die("no memory for stacks");
    for (unsigned i = 0; i < FIBERS_MAX; i++) {
        mprotect(memory, guard, PROT_NONE);
        fibers[i].stack = memory + guard;
        memory += STACK_SIZE + guard;
    }
}

void fiber_reset(void)
{
    for (unsigned i = 0; i < fibers_used; i++)
        fibers[i].state = FIBER_FREE;
    fibers_used = 0;
    memset(frozen_until, 0, sizeof(frozen_until));
}

struct fiber *fiber_start(int node, const char *name, bool detached, void *(*run)(void *), void *opaque)
{
    for (unsigned i = 0; i < FIBERS_MAX; i++) {
        struct fiber *fiber = &fibers[i];

        if (fiber->state != FIBER_FREE || fiber == current)
            continue;
        fiber->node = node;
        fiber->name = name;
        fiber->detached = detached;
        fiber->run = run;
        fiber->opaque = opaque;
        fiber->object = NULL;
        fiber->state = FIBER_READY;
        prepare_stack(fiber);
        if (i >= fibers_used)
            fibers_used = i + 1;
        return fiber;
    }
    sim_die("more than %d threads", FIBERS_MAX);
}

void *fiber_join(struct fiber *fiber)
{
    while (fiber->state != FIBER_ENDED)
        fiber_wait(fiber, FIBER_NEVER);
    fiber->state = FIBER_FREE;
    return fiber->result;
}

struct fiber *fiber_by_number(unsigned number)
{
    return &fibers[number - 1];
}

unsigned fiber_number(const struct fiber *fiber)
{
    return (unsigned)(fiber - fibers) + 1;
}

struct fiber *fiber_self(void)
{
    return current;
}

int fiber_node(void)
{
    return current ? current->node : FIBER_WORLD;
}

const char *fiber_name(void)
{
    return current ? current->name : "world";
}

bool fiber_wait(const void *object, uint64_t deadline)
{
    current->object = object;
    current->deadline = deadline;
    current->timed_out = false;
    current->state = FIBER_WAITING;
    switch_to_loop(false);
    return !current->timed_out;
}

void fiber_wake(const void *object)
{
    for (unsigned i = 0; i < fibers_used; i++)
        if (fibers[i].state == FIBER_WAITING && fibers[i].object == object)
            fibers[i].state = FIBER_READY;
}

void fiber_sleep(uint64_t ns)
{
    fiber_wait(&current->state, sim.now + ns);
}

void fiber_yield(void)
{
    if (!current)
        return;
    current->state = FIBER_READY;
    switch_to_loop(false);
}

void fiber_maybe_yield(void)
{
    if (current && sim_chance(sim.swarm.yield))
        fiber_yield();
}

void fiber_kill_node(int node)
{
    for (unsigned i = 0; i < fibers_used; i++)
        if (fibers[i].node == node)
            fibers[i].state = FIBER_FREE;
}

void fiber_freeze_node(int node, uint64_t until)
{
    frozen_until[node] = until;
}

uint64_t fiber_frozen_until(int node)
{
    return frozen_until[node];
}

bool fiber_is_frozen(int node)
{
    return node >= 0 && frozen_until[node] > sim.now;
}

unsigned fiber_count(int node)
{
    unsigned count = 0;

    for (unsigned i = 0; i < fibers_used; i++)
        count += fibers[i].state != FIBER_FREE && fibers[i].node == node;
    return count;
}

/* Those that can go on; where none can, the time at which one will. */
static unsigned runnable(struct fiber **ret_list, uint64_t *ret_next)
{
    unsigned count = 0;

    *ret_next = FIBER_NEVER;
    for (unsigned i = 0; i < fibers_used; i++) {
        struct fiber *fiber = &fibers[i];
        uint64_t at;

        if (fiber->state != FIBER_READY && fiber->state != FIBER_WAITING)
            continue;
        if (fiber->state == FIBER_WAITING && fiber->deadline <= sim.now) {
            fiber->state = FIBER_READY;
            fiber->timed_out = true;
        }
        if (fiber->state == FIBER_READY && !fiber_is_frozen(fiber->node)) {
            ret_list[count++] = fiber;
            continue;
        }
        at = fiber->state == FIBER_READY ? 0 : fiber->deadline;
        if (fiber_is_frozen(fiber->node) && at < frozen_until[fiber->node])
            at = frozen_until[fiber->node];
        if (at < *ret_next)
            *ret_next = at;
    }
    return count;
}

bool fiber_run_one(uint64_t limit)
{
    struct fiber *list[FIBERS_MAX];
    uint64_t next;
    unsigned count = runnable(list, &next);

    if (!count) {
        if (next > limit) {
            sim.now = limit;
            return false;
        }
        sim.now = next;
        count = runnable(list, &next);
    }
    if (!count)
        return true; /* a deadline passed of which nobody was left */
    sim.now += STEP_NS;
    switch_to(list[count == 1 ? 0 : sim_random() % count]);
    return true;
}

void fiber_dump(void (*print)(const char *format, ...) __attribute__((format(printf, 1, 2))))
{
    for (unsigned i = 0; i < fibers_used; i++)
        if (fibers[i].state == FIBER_READY || fibers[i].state == FIBER_WAITING)
            print("thread %s of node %d: %s until %.6f s%s", fibers[i].name, fibers[i].node,
                  fibers[i].state == FIBER_READY ? "can go on" : "waits",
                  fibers[i].state == FIBER_READY || fibers[i].deadline == FIBER_NEVER
                      ? 0.0
                      : (double)fibers[i].deadline / 1e9,
                  fiber_is_frozen(fibers[i].node) ? ", frozen" : "");
}
