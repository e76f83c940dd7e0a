/* SPDX-License-Identifier: BSD-2-Clause */
/* One seed: what there is, what its operators want, and whether it ends as it should. */
#include "fiber.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_NS (20 * MS)
#define OPERATOR_WAITS_NS (60 * SECOND) /* before ending a side whose peer is gone */
#define STUCK_NS (250 * SECOND)         /* before giving up what a broken disk holds up */
#define MOVE_MAX_NS (400 * SECOND)      /* every timeout of the protocol one after the other */
#define EVENTS_MAX UINT64_C(4000000)
#define ATTEMPTS 4

struct sim_world sim;
struct sim_outcomes *sim_totals;

/* xoshiro256** */
static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

uint64_t sim_random(void)
{
    uint64_t *s = sim.random, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t sim_below(uint64_t limit)
{
    return limit ? sim_random() % limit : 0;
}

bool sim_chance(unsigned of_1024)
{
    return of_1024 && (sim_random() >> 40) % 1024 < of_1024;
}

static void seed_random(uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        sim.random[i] = z ^ z >> 31;
    }
}

void sim_trace(const char *format, ...)
{
    va_list arguments;

    if (!sim.traced)
        return;
    printf("%12.6f  %-10s ", (double)sim.now / 1e9, fiber_name());
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void sim_fail(const char *invariant, const char *format, ...)
{
    va_list arguments;

    if (sim.invariant)
        return;
    sim.invariant = invariant;
    va_start(arguments, format);
    vsnprintf(sim.message, sizeof(sim.message), format, arguments);
    va_end(arguments);
    sim_trace("VIOLATION of %s: %s", invariant, sim.message);
}

noreturn void sim_die(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "sim: seed %llu: ", (unsigned long long)sim.seed);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static unsigned registry_step(unsigned step)
{
    switch (step) {
    case STEP_S0:
    case STEP_S1:
        return STEP_R0 + step;
    case STEP_S2:
    case STEP_S3:
        return STEP_R2;
    case STEP_S4:
        return STEP_R3;
    case STEP_S17:
        return STEP_R5;
    case STEP_S19:
        return STEP_R6;
    default:
        return step >= STEP_R0 ? step : STEP_COUNT;
    }
}

void sim_step(enum sim_step_number number)
{
    unsigned step = sim.swarm.registry ? registry_step(number) : number;

    if (step == STEP_COUNT)
        return;
    if (sim.traced && step != sim.step)
        sim_trace("-- %s", step_name(step));
    sim.step = step;
    if (fault_is_due(step))
        fiber_yield(); /* the loop lets it strike */
}

/* Usually nothing, sometimes a little, sometimes a lot. */
static unsigned draw_chance(unsigned little, unsigned much)
{
    uint64_t kind = sim_below(4);

    return kind < 2 ? 0 : kind == 2 ? little : much;
}

static void draw_swarm(void)
{
    sim.swarm = (struct sim_swarm){
        .yield = 32 + draw_chance(128, 512),
        .short_io = draw_chance(32, 256),
        .slow_disk = draw_chance(16, 256),
        .guest_rate = 100u << sim_below(5),
        .writeback = draw_chance(128, 900),
        .partial_write = draw_chance(256, 900),
        .disk_survives = (unsigned)sim_below(3) * 512,
        .latency_ns = 20 * US << 2 * sim_below(6),
        .jitter_ns = sim_chance(512) ? sim_below(2 * MS) : 0,
        .window = (size_t)16 << (10 + sim_below(5)),
        .wait_for_all = sim_chance(200),
        .reuse = sim_chance(256),
        .moves = sim_chance(256) ? 2 : 1,
        .streams = 1 + (unsigned)sim_below(3),
        .max_passes = 1 + (unsigned)sim_below(5),
    };
}

/* The director */

static int guest_location(void)
{
    for (int node = 0; node < SIM_NODES; node++)
        if (sim.nodes[node].vmm.state == VMM_RUNNING)
            return node;
    return -1;
}

static void restart(int node)
{
    struct ledger_record record = {0};

    net_restart(node);
    sim.nodes[node].up = true;
    sim_trace("node %d is up again", node);
    if (node == 0 && sim.swarm.registry)
        node_start_registry(node);
    else if (disk_ledger(node, false, &record) && record.state == LEDGER_SAVED)
        node_start_local(node);
}

static void restart_dead(uint64_t *down_since)
{
    for (int node = 0; node < SIM_NODES; node++) {
        if (sim.nodes[node].up) {
            down_since[node] = 0;
            continue;
        }
        if (!down_since[node])
            down_since[node] = sim.now + 1;
        else if (sim.now > down_since[node] + 100 * MS + sim_below(5 * SECOND))
            restart(node);
    }
}

static void look_after_idle(void)
{
    for (int node = 0; node < SIM_NODES - 1; node++)
        if (sim.nodes[node].up && !sim.nodes[node].role_running)
            check_idle(node);
}

/* Until nobody does anything about the move any more. */
static void settle(int source, int destination)
{
    uint64_t began = sim.now, alone_since = 0, down_since[SIM_NODES] = {0};
    bool busy = true, stuck = false;

    while (busy && !sim.invariant) {
        bool arrives, serves;

        fiber_sleep(sim.now - began < SECOND ? POLL_NS : 10 * POLL_NS);
        restart_dead(down_since);
        look_after_idle();
        arrives = node_arrives(destination) || node_arrives(SIM_NODES - 1);
        serves = node_is_serving(source);
        busy = arrives || serves || !sim.nodes[source].up || !sim.nodes[destination].up;
        if (arrives == serves || fiber_is_frozen(source) || fiber_is_frozen(destination))
            alone_since = 0;
        else if (!alone_since)
            alone_since = sim.now;
        else if (sim.now - alone_since > OPERATOR_WAITS_NS) {
            sim_trace("the operator ends what waits for a peer that is gone");
            sim.guest.may_die |= sim.committed;
            node_cancel(arrives ? destination : source, "its peer is gone");
            if (arrives)
                node_cancel(SIM_NODES - 1, "its peer is gone");
            alone_since = 0;
        }
        if (sim.now - began > STUCK_NS && !stuck && sim.guest.may_die) {
            stuck = true;
            sim_trace("the operator ends what makes no progress");
            node_cancel(destination, "it makes no progress");
            node_cancel(SIM_NODES - 1, "it makes no progress");
        }
        if (sim.now - began > MOVE_MAX_NS) {
            fiber_dump(sim_trace);
            sim_fail("I8", "after %d s the nodes still wait: arriving %s, serving %s",
                     (int)(MOVE_MAX_NS / SECOND), arrives ? "yes" : "no", serves ? "yes" : "no");
        }
    }
}

/* Another node than the one that has it. */
static bool move_once(void)
{
    int source = sim.swarm.registry ? 0 : guest_location();
    int destination = source == 0 ? 1 : 0;

    if (source < 0 || sim.nodes[destination].role_running || !sim.nodes[source].role_running)
        return false;
    if (node_session(source))
        return false;
    sim.source = source;
    sim.destination = destination;
    sim.committed = false;
    sim.guest.operations_before = sim.guest.operations;
    sim_trace("the VM shall move from node %d to node %d", source, destination);
    node_start_arrival(destination, source);
    settle(source, destination);
    return guest_location() == destination;
}

static void wait_for_guest(void)
{
    for (unsigned i = 0; i < 500 && guest_location() < 0; i++)
        fiber_sleep(POLL_NS);
}

/* With everything mended a guest that could be saved runs on, somewhere; it may be on its way to a third node. */
static void judge_end(void)
{
    int location;

    if (!sim.guest.may_die)
        wait_for_guest();
    location = guest_location();

    sim.outcomes.stranded += location < 0;
    if (location >= 0 || sim.guest.may_die)
        return;
    fiber_dump(sim_trace);
    sim_fail("I1", "at the end the guest runs nowhere, and no fault is the reason");
}

/*
 * A registry may have died when its last session was over, and nobody looked after it; the last attempt
 * finds one that is awake.
 */
static void await_registry(bool awake)
{
    uint64_t down_since[SIM_NODES] = {0};

    for (unsigned i = 0; i < 3000 && (!sim.nodes[0].up || (awake && fiber_is_frozen(0))); i++) {
        restart_dead(down_since);
        fiber_sleep(POLL_NS);
    }
}

/* A node that ends saves its VM; one that starts goes on with it. */
static void stop_and_start(void)
{
    int node = guest_location();

    if (node < 0 || node == SIM_NODES - 1)
        return;
    sim.committed = false;
    sim.source = sim.destination = -1;
    node_stop(node);
    for (unsigned i = 0; i < 500 && sim.nodes[node].role_running; i++)
        fiber_sleep(POLL_NS);
    if (sim.nodes[node].role_running || sim.guest.may_die)
        return;
    check_idle(node);
    node_kill(node, true); /* what was saved survives */
    net_restart(node);
    node_start_local(node);
    fiber_sleep(SECOND);
    wait_for_guest();
    if (guest_location() < 0) /* elsewhere: another node wanted it, and has it from there */
        sim_fail("I3", "a VM that was saved at node %d does not start from its files", node);
}

static void *director_main(void *opaque)
{
    (void)opaque;
    node_install(0);
    if (sim.swarm.reuse)
        node_install(1);
    for (int node = 0; node < SIM_NODES; node++)
        sim.nodes[node].up = true;
    if (sim.swarm.registry)
        node_start_registry(0);
    else
        node_start_local(0);
    if (!sim.swarm.registry)
        wait_for_guest();
    for (unsigned move = 0, attempt = 0; move < sim.swarm.moves && attempt < ATTEMPTS; attempt++) {
        fiber_sleep(sim_below(30 * MS));
        if (sim.swarm.registry)
            await_registry(attempt == ATTEMPTS - 1);
        move += move_once();
        if (attempt == ATTEMPTS - 2)
            fault_heal();
        if (sim.swarm.registry && guest_location() >= 0)
            break;
    }
    fault_heal();
    fiber_sleep(sim_below(100 * MS));
    if (!sim.invariant)
        judge_end();
    if (!sim.invariant && !sim.swarm.registry && sim_chance(128))
        stop_and_start();
    sim.over = true;
    return NULL;
}

static void begin(uint64_t seed, bool traced)
{
    memset(&sim.nodes, 0, sizeof(sim.nodes));
    disk_reset();
    net_reset();
    cache_reset();
    guest_reset();
    check_reset();
    fault_reset();
    memset(&sim, 0, sizeof(sim));
    sim.seed = seed;
    sim.traced = traced;
    sim.now = SECOND;
    sim.source = sim.destination = -1;
    seed_random(seed);
    draw_swarm();
    fault_plan(seed);
    for (int node = 0; node < SIM_NODES; node++)
        sim.nodes[node].index = node;
    fiber_start(FIBER_WORLD, "director", true, director_main, NULL);
}

static void finish(void)
{
    uint64_t *total = (uint64_t *)sim_totals, *mine = (uint64_t *)&sim.outcomes;

    sim.outcomes.guest_operations = sim.guest.operations;
    sim.outcomes.events = sim.events;
    sim.outcomes.simulated_ns = sim.now - SECOND;
    for (size_t i = 0; i < sizeof(sim.outcomes) / sizeof(uint64_t); i++)
        __atomic_fetch_add(&total[i], mine[i], __ATOMIC_RELAXED);
    fiber_reset();
    for (int node = -1; node < SIM_NODES; node++)
        memory_drop(node);
}

bool sim_play(uint64_t seed, bool traced)
{
    begin(seed, traced);
    while (!sim.over && !sim.invariant) {
        uint64_t due = fault_next();

        if (!fiber_run_one(due) && due == FIBER_NEVER) {
            sim_fail("I8", "nobody can do anything any more");
            break;
        }
        fault_strike();
        check_turn();
        if (++sim.events > EVENTS_MAX) {
            fiber_dump(sim_trace);
            sim_fail("I8", "it goes round and round");
        }
    }
    finish();
    return !sim.invariant;
}
