/* SPDX-License-Identifier: BSD-2-Clause */
#include "fault.h"
#include "fiber.h"
#include "sim.h"

#include "util/cleanup.h"

#include <stdio.h>
#include <string.h>

#define PLAN_MAX 4
#define DAY_S 86400

static const struct {
    const char *name, *what;
    uint64_t steps;
} faults[] = {
#define FAULT(name_, steps_, what_) {#name_, what_, steps_},
    SIM_FAULTS(FAULT)
#undef FAULT
};
static const struct {
    const char *name, *what;
} steps[] = {
#define STEP(name_, what_) {#name_, what_},
    SIM_STEPS(STEP)
#undef STEP
};
_Static_assert(sizeof(steps) / sizeof(steps[0]) <= FAULT_STEPS_MAX, "a column per step");

uint32_t (*fault_coverage)[FAULT_STEPS_MAX];

/* What shall happen: at the step's n-th time, after a while. */
static struct planned {
    enum fault fault;
    unsigned step, times;
    uint64_t delay;
    uint64_t due; /* 0: its step did not come yet; then when it strikes */
    bool done;
} plan[PLAN_MAX];
static unsigned planned;

/* Faults that wait for the operation that they make fail. */
static struct {
    bool armed;
    int node;
    unsigned step, skip;
    uint64_t until;
} armed[FAULT_COUNT];

const char *fault_name(enum fault fault)
{
    return faults[fault].name;
}

const char *step_name(unsigned step)
{
    return steps[step].name;
}

void fault_reset(void)
{
    memset(armed, 0, sizeof(armed));
    planned = 0;
}

unsigned fault_pairs(void)
{
    unsigned pairs = 0;

    for (unsigned fault = 0; fault < FAULT_COUNT; fault++)
        pairs += (unsigned)__builtin_popcountll(faults[fault].steps);
    return pairs;
}

static void pair_by_number(unsigned number, enum fault *ret_fault, unsigned *ret_step)
{
    for (unsigned fault = 0; fault < FAULT_COUNT; fault++)
        for (unsigned step = 0; step < STEP_COUNT; step++)
            if (faults[fault].steps >> step & 1 && !number--) {
                *ret_fault = (enum fault)fault;
                *ret_step = step;
                return;
            }
}

static void add(enum fault fault, unsigned step)
{
    plan[planned++] = (struct planned){.fault = fault,
                                       .step = step,
                                       .times = sim_chance(768) ? 1 : 1 + (unsigned)sim_below(4),
                                       .delay = sim_chance(512) ? 0 : sim_below(20 * MS)};
    if (fault == FAULT_BASE_MISMATCH) { /* before it is looked at */
        plan[planned - 1].times = 1;
        plan[planned - 1].delay = 0;
    }
}

/*
 * Pairs take turns, so that each comes within so many seeds; what else happens is drawn.  One seed in
 * sixteen has no fault at all: then everything must work.
 */
void fault_plan(uint64_t seed)
{
    unsigned step = 0, pairs = fault_pairs(), more = (unsigned)sim_below(PLAN_MAX);
    enum fault fault = FAULT_COUNT;

    if (seed % 16 == 0)
        return;
    pair_by_number((unsigned)(seed * 7919 % pairs), &fault, &step);
    sim.swarm.registry = step >= STEP_R0;
    if (fault == FAULT_BASE_MISMATCH)
        sim.swarm.reuse = true;
    add(fault, step);
    while (more--) {
        pair_by_number((unsigned)sim_below(pairs), &fault, &step);
        if ((step >= STEP_R0) == sim.swarm.registry)
            add(fault, step);
    }
}

static void hit(enum fault fault, unsigned step)
{
    if (faults[fault].steps >> step & 1)
        __atomic_fetch_add(&fault_coverage[fault][step], 1, __ATOMIC_RELAXED);
}

bool fault_is_due(unsigned step)
{
    bool due = false;

    for (unsigned i = 0; i < planned; i++) {
        struct planned *entry = &plan[i];

        if (!entry->done && !entry->due && entry->step == step && !--entry->times)
            entry->due = sim.now + entry->delay;
        due |= !entry->done && entry->due && entry->due <= sim.now;
    }
    return due;
}

bool fault_takes(int node, enum fault fault, const char *what)
{
    if (!armed[fault].armed || armed[fault].node != node)
        return false;
    if (sim.now > armed[fault].until) {
        armed[fault].armed = false;
        return false;
    }
    if (armed[fault].skip) {
        armed[fault].skip--;
        return false;
    }
    if (fault != FAULT_DISK_FULL) /* which stays full until it is mended */
        armed[fault].armed = false;
    else
        sim.guest.may_die |= node == sim.destination && sim.committed;
    sim_trace("FAULT: node %d: %s: %s", node, faults[fault].what, what);
    hit(fault, armed[fault].step);
    if ((fault == FAULT_DISK_WRITE || fault == FAULT_DISK_SYNC || fault == FAULT_DISK_READ) &&
        strstr(what, "ledger"))
        sim.ledger_failed = true;
    return true;
}

void fault_struck(enum fault fault, const char *what)
{
    sim_trace("FAULT: %s", what);
    hit(fault, armed[fault].step);
}

static void arm(enum fault fault, int node)
{
    armed[fault].armed = true;
    armed[fault].node = node;
    armed[fault].step = sim.step;
    armed[fault].skip = fault == FAULT_MEMORY ? (unsigned)sim_below(16)
                        : fault == FAULT_DISK_WRITE || fault == FAULT_DISK_READ
                            ? (unsigned)sim_below(4)
                            : 0;
    armed[fault].until = sim.now + (fault == FAULT_DISK_FULL ? 300 * MS : 100 * SECOND);
    /* What fails for want of something after the hand-over, or in the guest's own storage, may end it. */
    if (fault != FAULT_VMM_ERROR && fault != FAULT_HOOK)
        sim.guest.may_die = true;
}

static bool has_guest(int node)
{
    enum vmm_state state = sim.nodes[node].vmm.state;

    return state == VMM_RUNNING || state == VMM_PAUSED || state == VMM_LOADED;
}

/* The guest's memory is in its VMM, which ends with its daemon; after COMMIT two nodes hold it. */
static void kill_node(enum fault fault, int node, bool power)
{
    if (!sim.nodes[node].up)
        return;
    sim_trace("FAULT: node %d: %s", node, faults[fault].what);
    sim.guest.may_die |= has_guest(node) || sim.committed || node_is_serving(node);
    hit(fault, sim.step);
    node_kill(node, power);
    check_disks("after a crash");
}

static void kill_vmm(enum fault fault, int node)
{
    if (sim.nodes[node].vmm.state == VMM_NONE || sim.nodes[node].vmm.state == VMM_DEAD)
        return;
    sim_trace("FAULT: node %d: %s", node, faults[fault].what);
    sim.guest.may_die |= has_guest(node) || sim.committed;
    hit(fault, sim.step);
    vmm_end(node, true);
}

static void freeze(enum fault fault, int node)
{
    uint64_t time = SECOND + sim_below(30 * SECOND);

    if (!sim.nodes[node].up)
        return;
    sim_trace("FAULT: node %d: %s", node, faults[fault].what);
    fiber_freeze_node(node, sim.now + time);
    if (node == sim.source)
        sim.excused_until = sim.now + time + 3 * SECOND;
    hit(fault, sim.step);
}

static void break_net(enum fault fault, enum net_fault how, int node, uint64_t longest)
{
    sim_trace("FAULT: node %d: %s", node, faults[fault].what);
    if (how == NET_FLIP || how == NET_TRUNCATE || how == NET_DUPLICATE || how == NET_REFUSE)
        armed[fault].step = sim.step; /* counted when it strikes */
    else
        hit(fault, sim.step);
    net_break(how, node, MS + sim_below(longest));
}

static void alter_base(void)
{
    uint64_t page = sim_below(page_count(DEVICE_DISK));

    if (!disk_device_exists(sim.destination, DEVICE_DISK))
        return;
    memset(disk_page(sim.destination, DEVICE_DISK, page, false), 0xa5,
           page_length(DEVICE_DISK, page));
    sim_trace("FAULT: page %llu of the disk at node %d is changed", (unsigned long long)page,
              sim.destination);
    hit(FAULT_BASE_MISMATCH, sim.step);
}

/* Somebody connects who should not. */

struct stranger {
    enum fault fault;
    unsigned step;
    int target;
    uint8_t token[WIRE_TOKEN_SIZE];
    bool has_token;
};

static void send_nonsense(struct stream *stream)
{
    uint8_t noise[256];
    struct iovec vector = {noise, 1 + sim_below(sizeof(noise))};
    struct wire_header header = {.type = (uint16_t)sim_below(40),
                                 .device = (uint16_t)sim_random(),
                                 .length = (uint32_t)sim_below(64),
                                 .offset = sim_random(),
                                 .argument = sim_random()};

    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)sim_random();
    if (sim_chance(512))
        stream_send(stream, header, noise);
    else
        transport_writev_full(stream->connection, &vector, 1);
    if (sim_chance(256))
        fiber_sleep(sim_below(20 * SECOND)); /* and hangs on */
}

static void send_strange_hello(struct stream *stream, const struct stranger *stranger)
{
    struct hello hello = {.version = WIRE_VERSION, .role = "peer", .software = "stranger"};
    char text[] = "{\"protocol\":1,\"role\":\"peer\",\"software\":\"x\",\"vm\":\"\",\"requires\":[\"x\"]}";

    if (stranger->fault == FAULT_VERSION && sim_chance(512)) {
        struct wire_header header = {.type = WIRE_HELLO, .length = sizeof(text) - 1};

        stream_send(stream, header, text);
        return;
    }
    if (stranger->fault == FAULT_VERSION) {
        hello.version = WIRE_VERSION + 1;
    } else {
        hello.reconnect = true;
        memcpy(hello.token, stranger->token, sizeof(hello.token));
    }
    session_send_text(stream, WIRE_HELLO, 0, hello_encode(&hello));
}

static void *stranger_main(void *opaque)
{
    struct stranger *stranger = opaque;
    char address[2] = {(char)('0' + stranger->target), '\0'};
    struct transport_connection *connection;
    struct drafter_error error = {0};
    struct wire_header header = {.type = WIRE_JOIN, .argument = sim_below(5), .length = WIRE_TOKEN_SIZE};
    struct stream *stream;
    char answer[1024];

    if (transport_connect(net_transport(SIM_NODES - 1), address, 100, &connection, &error) ||
        stream_new(connection, &stream))
        return NULL;
    transport_set_timeout(connection, 5000);
    if (stranger->fault == FAULT_HOSTILE)
        send_nonsense(stream);
    else if (stranger->fault == FAULT_IMPOSTOR && sim_chance(512))
        stream_send(stream, header, stranger->token);
    else
        send_strange_hello(stream, stranger);
    hit(stranger->fault, stranger->step);
    sim_trace("FAULT: %s", faults[stranger->fault].what);
    if (!stream_receive(stream, &header, answer, sizeof(answer)) && header.type != WIRE_ABORT)
        sim_fail("I10", "a stranger is answered with %s", wire_type_name(header.type));
    stream_free(stream);
    return NULL;
}

/* A token that was good in another session, or never. */
static void send_stranger(enum fault fault)
{
    struct stranger *stranger = sim_allocate(sizeof(*stranger));

    stranger->fault = fault;
    stranger->step = sim.step;
    stranger->target = sim.source;
    for (unsigned i = 0; i < WIRE_TOKEN_SIZE; i++)
        stranger->token[i] = sim.old_token[0] && sim.seed % 2 ? sim.old_token[i] : (uint8_t)sim_random();
    if (sim.source >= 0 && sim.source < SIM_NODES - 1)
        fiber_start(SIM_NODES - 1, "stranger", true, stranger_main, stranger);
}

static void second_puller(void)
{
    struct sim_node *third = &sim.nodes[SIM_NODES - 1];

    if (third->role_running || sim.source == SIM_NODES - 1 || fiber_count(SIM_NODES - 1))
        return;
    if (sim.swarm.registry && sim.committed && !sim.nodes[sim.destination].role_running)
        return; /* the copy that ran was saved: what the registry has is another VM than the guest's oracle knows */
    sim_trace("FAULT: %s", faults[FAULT_SECOND_PULLER].what);
    hit(FAULT_SECOND_PULLER, sim.step);
    node_start_arrival(SIM_NODES - 1, sim.source);
}

static void cancel(enum fault fault, int node)
{
    if (!sim.nodes[node].role)
        return;
    sim_trace("FAULT: node %d: %s", node, faults[fault].what);
    hit(fault, sim.step);
    sim.guest.may_die |= sim.committed; /* with the link lost as well it ends in the middle */
    node_cancel(node, "cancelled");
}

static void strike_node(enum fault fault, int source, int destination)
{
    switch (fault) {
    case FAULT_KILL_SOURCE:
    case FAULT_POWER_SOURCE:
        kill_node(fault, source, fault == FAULT_POWER_SOURCE);
        return;
    case FAULT_KILL_DESTINATION:
    case FAULT_POWER_DESTINATION:
        kill_node(fault, destination, fault == FAULT_POWER_DESTINATION);
        return;
    case FAULT_POWER_BOTH:
        kill_node(fault, source, true);
        kill_node(fault, destination, true);
        return;
    case FAULT_VMM_SOURCE:
        kill_vmm(fault, source);
        return;
    case FAULT_VMM_DESTINATION:
        kill_vmm(fault, destination);
        return;
    case FAULT_FREEZE_SOURCE:
        freeze(fault, source);
        return;
    case FAULT_FREEZE_DESTINATION:
        freeze(fault, destination);
        return;
    case FAULT_CANCEL_SOURCE:
        cancel(fault, source);
        return;
    case FAULT_CANCEL_DESTINATION:
        cancel(fault, destination);
        return;
    default:
        return;
    }
}

static void strike_net(enum fault fault, int source, int destination)
{
    int either = sim_chance(512) ? source : destination;

    switch (fault) {
    case FAULT_CUT:
        break_net(fault, net_connections(destination) ? NET_CUT : NET_REFUSE, source, 1);
        return;
    case FAULT_STALL:
        break_net(fault, NET_STALL, source, 30 * SECOND);
        return;
    case FAULT_SLOW:
        break_net(fault, NET_SLOW, source, 10 * SECOND);
        return;
    case FAULT_DEAF_SOURCE:
        break_net(fault, NET_ONE_WAY, destination, 30 * SECOND);
        return;
    case FAULT_DEAF_DESTINATION:
        break_net(fault, NET_ONE_WAY, source, 30 * SECOND);
        return;
    case FAULT_FLIP:
        break_net(fault, NET_FLIP, either, 1);
        return;
    case FAULT_TRUNCATE:
        break_net(fault, NET_TRUNCATE, either, 1);
        return;
    case FAULT_DUPLICATE:
        break_net(fault, NET_DUPLICATE, either, 1);
        return;
    case FAULT_DELAY_ONE:
        break_net(fault, NET_DELAY_ONE, either, 5 * SECOND);
        return;
    default:
        return;
    }
}

static void strike(enum fault fault)
{
    int source = sim.source, destination = sim.destination;
    int either = sim_chance(512) ? source : destination;

    switch (fault) {
    case FAULT_IMPOSTOR:
    case FAULT_HOSTILE:
    case FAULT_VERSION:
        send_stranger(fault);
        return;
    case FAULT_SECOND_PULLER:
        second_puller();
        return;
    case FAULT_BASE_MISMATCH:
        alter_base();
        return;
    case FAULT_VMM_ERROR:
        arm(fault, sim.step == STEP_S6 || sim.step == STEP_S7 ? source : destination);
        return;
    case FAULT_HOOK:
        arm(fault, sim.step == STEP_S6 ? source : destination);
        return;
    case FAULT_CLOCK:
        sim.nodes[either].clock_skew_s += (int64_t)sim_below(730 * DAY_S) - 365 * DAY_S;
        sim_trace("FAULT: node %d: %s", either, faults[fault].what);
        hit(fault, sim.step);
        return;
    case FAULT_DISK_FULL:
    case FAULT_DISK_READ:
    case FAULT_DISK_WRITE:
    case FAULT_DISK_SYNC:
    case FAULT_MEMORY:
    case FAULT_RESOURCES:
        arm(fault, either);
        return;
    default:
        strike_node(fault, source, destination);
        strike_net(fault, source, destination);
    }
}

void fault_strike(void)
{
    for (unsigned i = 0; i < planned; i++) {
        struct planned *entry = &plan[i];

        if (entry->done || !entry->due || entry->due > sim.now)
            continue;
        entry->done = true;
        strike(entry->fault);
    }
}

uint64_t fault_next(void)
{
    uint64_t next = FIBER_NEVER;

    for (unsigned i = 0; i < planned; i++)
        if (!plan[i].done && plan[i].due && plan[i].due < next)
            next = plan[i].due;
    return next;
}

void fault_heal(void)
{
    memset(armed, 0, sizeof(armed));
    planned = 0;
    net_heal();
}

void fault_print_coverage(bool all)
{
    for (unsigned fault = 0; fault < FAULT_COUNT; fault++) {
        printf("%-20s", faults[fault].name);
        for (unsigned step = 0; step < STEP_COUNT; step++) {
            if (!(faults[fault].steps >> step & 1))
                printf("%7s", "-");
            else
                printf(" %6u", fault_coverage[fault][step]);
        }
        printf("%s%s\n", all ? "  " : "", all ? faults[fault].what : "");
    }
}

unsigned fault_missing(void)
{
    unsigned missing = 0;

    for (unsigned fault = 0; fault < FAULT_COUNT; fault++)
        for (unsigned step = 0; step < STEP_COUNT; step++) {
            if (!(faults[fault].steps >> step & 1) || fault_coverage[fault][step])
                continue;
            printf("never hit: %s (%s) at %s (%s)\n", faults[fault].name, faults[fault].what,
                   steps[step].name, steps[step].what);
            missing++;
        }
    return missing;
}
