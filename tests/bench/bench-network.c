/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pools of a thousand slots: making and removing them against the usual script of ip(8) and iptables(8),
 * claims, and what a packet takes with a thousand slots against one.  One JSON line per figure; exits
 * with a failure when one is beyond its limit.  In a host of its own, see
 * ../conformance/network-lab.h.
 *
 *     bench-network [PLUGIN [SLOTS [SCRIPT_SLOTS]]]
 *
 * The script makes SCRIPT_SLOTS, and its time is taken as if it went on at that pace, which it does not:
 * its rules grow.
 */
#include "../conformance/network-lab.h"
#include "plugin/network.h"

#include <check.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 3
#define PACKETS 8000
#define WARM_UP 500
#define SETTLE_NS UINT64_C(5000000000)
#define KERNEL_SHARE 0.08
#define SLOTS_MAX 1000

#define SETUP_LIMIT 0.2     /* of the script's time */
#define CLAIM_LIMIT_US 50.0 /* 99 of 100 */
#define LATENCY_LIMIT 1.05  /* of that with one slot */
#define TEARDOWN_LIMIT 1.0  /* of set-up */

static const char *plugin, *only;
static unsigned slots = SLOTS_MAX, script_slots = 100;
static int failed;

static double seconds(uint64_t begin_ns)
{
    return (double)(drafter_now_ns() - begin_ns) / 1e9;
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;

    return (a > b) - (a < b);
}

static double quantile(double *values, size_t count, double part)
{
    size_t index = (size_t)((double)count * part);

    qsort(values, count, sizeof(*values), compare);
    return values[index < count ? index : count - 1];
}

static void emit(const char *name, double ours, const char *other, double theirs, double limit)
{
    double ratio = ours / theirs;

    printf("{\"bench\": \"network-%s-%u/%s\", \"ours\": %.4f, \"other\": \"%s\", \"theirs\": %.4f, "
           "\"ratio\": %.4f, \"max_ratio\": %.2f}\n",
           plugin, slots, name, ours, other, theirs, ratio, limit);
    fflush(stdout);
    failed |= ratio > limit;
}

static void die(const char *what, const struct drafter_error *err)
{
    fprintf(stderr, "bench-network: %s: %s\n", what, err->message);
    abort();
}

static struct instance *make(unsigned count)
{
    char number[16];
    const char *options[] = {"slots", number, "host-veth-cidr", "10.16.0.0/20",
                             "namespace-veth-cidr", "10.32.0.0/22", "blocked-subnet-cidr",
                             "10.32.0.0/22", NULL};
    struct drafter_error err = {0};
    struct instance *network = NULL;

    snprintf(number, sizeof(number), "%u", count);
    if (instance_new(DRAFTER_KIND_NETWORK, NULL, plugin, options, plugin, "/run", NULL, &network,
                     &err) < 0)
        die("instance", &err);
    return network;
}

static struct instance *open_pool(unsigned count)
{
    struct instance *network = make(count);
    struct drafter_error err = {0};

    if (network_pool_open(network, NULL, &err) < 0)
        die("open", &err);
    return network;
}

static double measure_script(void)
{
    char command[512];
    uint64_t begin;

    snprintf(command, sizeof(command), "sh %s/tests/bench/network-script.sh %u",
             getenv("abs_top_srcdir"), script_slots);
    begin = drafter_now_ns();
    lab_run(command);
    return seconds(begin) * slots / script_slots;
}

static void remove_script(void)
{
    char command[64];

    for (unsigned i = 0; i < script_slots; i++) {
        snprintf(command, sizeof(command), "ip netns del old%u", i);
        lab_run(command);
    }
    lab_run("iptables -F FORWARD");
}

static void measure_pool(void)
{
    double made[ROUNDS], removed[ROUNDS], script[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t begin = drafter_now_ns();
        struct instance *network = open_pool(slots);

        made[i] = seconds(begin);
        begin = drafter_now_ns();
        instance_free(network);
        removed[i] = seconds(begin);
        script[i] = measure_script();
        remove_script();
    }
    emit("setup_s", quantile(made, ROUNDS, 0.5), "ip netns and iptables script",
         quantile(script, ROUNDS, 0.5), SETUP_LIMIT);
    emit("teardown_s", quantile(removed, ROUNDS, 0.5), "our own set-up",
         quantile(made, ROUNDS, 0.5), TEARDOWN_LIMIT);
}

static void measure_claims(void)
{
    struct instance *maker = open_pool(slots), *user = make(slots);
    struct drafter_network_slot slot;
    double took[SLOTS_MAX];
    char owner[16];

    for (unsigned i = 0; i < slots; i++) {
        struct drafter_error err = {0};
        uint64_t begin;

        snprintf(owner, sizeof(owner), "vm%u", i);
        begin = drafter_now_ns();
        if (network_claim(user, NULL, owner, &slot, &err) < 0)
            die("claim", &err);
        took[i] = seconds(begin) * 1e6;
    }
    emit("claim_p99_us", quantile(took, slots, 0.99), "limit", CLAIM_LIMIT_US, 1.0);
    instance_free(user);
    instance_free(maker);
}

/* What all processors did since boot, in ticks, and how much of that in the kernel. */
static void read_ticks(double *ret_all, double *ret_kernel)
{
    unsigned long long ticks[7] = {0};
    FILE *stat = fopen("/proc/stat", "re");

    *ret_all = *ret_kernel = 0;
    if (stat && fscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1],
                       &ticks[2], &ticks[3], &ticks[4], &ticks[5], &ticks[6]) == 7) {
        for (size_t i = 0; i < 7; i++)
            *ret_all += (double)ticks[i];
        *ret_kernel = (double)(ticks[2] + ticks[5] + ticks[6]);
    }
    if (stat)
        fclose(stat);
}

/* Until the kernel has done what it put off: namespaces end, and interfaces join their groups, later. */
static void settle(void)
{
    struct timespec slice = {.tv_nsec = 400000000};
    uint64_t begin = drafter_now_ns();
    double all, kernel, all_then, kernel_then;

    do {
        read_ticks(&all_then, &kernel_then);
        nanosleep(&slice, NULL);
        read_ticks(&all, &kernel);
    } while (kernel - kernel_then > KERNEL_SHARE * (all - all_then) &&
             drafter_now_ns() - begin < SETTLE_NS);
}

/*
 * Keeps the thread, and those that it makes, to one processor and before others, or lets it go.  What a
 * packet takes is work for one; where the scheduler puts the threads on its way, and how deep the other
 * processor sleeps, is a matter of 40 or 120 us that changes from run to run.
 */
static void keep_to_one(bool on)
{
    static cpu_set_t all;
    struct sched_param priority = {.sched_priority = on};
    cpu_set_t one;

    sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &priority);
    if (!on) {
        sched_setaffinity(0, sizeof(all), &all);
    } else if (sched_getaffinity(0, sizeof(all), &all) == 0) {
        CPU_ZERO(&one);
        for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
            if (CPU_ISSET(i, &all))
                CPU_SET(i, &one);
        sched_setaffinity(0, sizeof(one), &one);
    }
}

/* Round trips client - host - namespace - guest and back. */
static double measure_packets(unsigned count)
{
    struct instance *network = open_pool(count);
    struct drafter_network_slot slot;
    static double took[PACKETS];
    struct drafter_error err = {0};
    char buffer[16];
    int fd;

    if (network_claim(network, "ark0", "vm", &slot, &err) < 0)
        die("claim", &err);
    keep_to_one(true);
    lab_guest(&slot);
    lab_reach(lab_client(), IPPROTO_UDP, slot.address, LAB_PORT, NULL);
    fd = lab_datagrams(lab_client(), slot.address, LAB_PORT);
    settle();
    for (size_t i = 0; i < WARM_UP + PACKETS;) {
        uint64_t begin = drafter_now_ns();

        if (send(fd, "ping", 4, 0) < 0 || recv(fd, buffer, sizeof(buffer), 0) < 0)
            continue;
        if (i >= WARM_UP)
            took[i - WARM_UP] = seconds(begin) * 1e6;
        i++;
    }
    close(fd);
    keep_to_one(false);
    instance_free(network);
    return quantile(took, PACKETS, 0.5);
}

static void measure_latency(void)
{
    double one[ROUNDS], many[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        one[i] = measure_packets(1);
        many[i] = measure_packets(slots);
    }
    emit("round_trip_us", quantile(many, ROUNDS, 0.5), "one slot", quantile(one, ROUNDS, 0.5),
         LATENCY_LIMIT);
}

static void measure(const char *name)
{
    struct drafter_error err = {0};
    struct plugin *loaded;

    plugin = name;
    if (plugin_load(DRAFTER_KIND_NETWORK, name, &loaded, &err) < 0) {
        fprintf(stderr, "bench-network: no figures of %s: %s\n", name, err.message);
        return;
    }
    measure_pool();
    measure_claims();
    measure_latency();
    plugin_unload(loaded);
}

/* The lab is made for tests. */
START_TEST(figures)
{
    static const char *const plugins[] = {"nftables", "iptables"};

    lab_setup();
    for (size_t i = 0; i < 2; i++)
        if (!only || strcmp(only, plugins[i]) == 0)
            measure(plugins[i]);
}
END_TEST

int main(int argc, char **argv)
{
    const char *obstacle = lab_obstacle();
    Suite *suite = suite_create("bench");
    TCase *tests = tcase_create("figures");
    SRunner *runner;

    if (obstacle) {
        printf("%s\n", obstacle);
        return 77;
    }
    if (argc > 2 && strtoul(argv[2], NULL, 10) - 1 < SLOTS_MAX)
        slots = (unsigned)strtoul(argv[2], NULL, 10);
    if (argc > 3 && strtoul(argv[3], NULL, 10) - 1 < SLOTS_MAX)
        script_slots = (unsigned)strtoul(argv[3], NULL, 10);
    if (argc > 1)
        only = argv[1];
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, figures);
    runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_MINIMAL);
    failed |= srunner_ntests_failed(runner) > 0;
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
