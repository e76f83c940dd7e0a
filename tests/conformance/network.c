/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every network plugin must do, through the adapters.
 *
 *     network              the plugins that need nothing of the host
 *     network root [NAME]  those with namespaces, as root, in a host of the test's own
 *     network soak [NAME]  the same, with makers killed at more moments
 */
#include "network.h"

#include "network-lab.h"

#include <stdio.h>

#define KILLS 12
#define SOAK_KILLS 50

const char *network_plugin;
int network_kills = KILLS;

/* A plugin, and an option that all its instances get. */
static const struct subject {
    const char *plugin, *key, *value;
} subjects[] = {
    {"null", NULL, NULL},
    {"nftables", NULL, NULL},
    {"iptables", NULL, NULL},
    {"iptables", "iptables-backend", "legacy"},
};

static const struct subject *subject;

#define OVERRIDES_MAX 32

struct instance *network_make(const char *const *overrides)
{
    struct drafter_error err = {0};
    struct instance *made = NULL;

    ck_assert_msg(network_try(overrides, &made, &err) == 0, "%s", err.message);
    return made;
}

int network_try(const char *const *overrides, struct instance **ret_instance,
                struct drafter_error *err)
{
    const char *all[OVERRIDES_MAX + 3] = {subject->key, subject->value, NULL};
    size_t count = subject->key ? 2 : 0;

    for (; overrides && *overrides && count < OVERRIDES_MAX; overrides++)
        all[count++] = *overrides;
    return instance_new(DRAFTER_KIND_NETWORK, NULL, network_plugin, all, network_plugin,
                        conformance_directory(), NULL, ret_instance, err);
}

void network_open(struct instance *network)
{
    struct drafter_error err = {0};

    ck_assert_msg(network_pool_open(network, NULL, &err) == 0, "%s", err.message);
}

void network_shut(struct instance *network)
{
    struct drafter_error err = {0};

    ck_assert_msg(network_pool_close(network, &err) == 0, "%s", err.message);
}

struct drafter_network_slot network_take(struct instance *network, const char *name,
                                         const char *owner)
{
    struct drafter_network_slot slot;
    struct drafter_error err = {0};

    ck_assert_msg(network_claim(network, name, owner, &slot, &err) == 0, "%s", err.message);
    return slot;
}

struct drafter_network_forward network_forward(const char *slot, uint8_t protocol,
                                               const char *address, uint16_t port)
{
    struct drafter_network_forward forward = {
        .protocol = protocol, .host_port = port, .guest_port = LAB_PORT, .owner = "test"};

    snprintf(forward.slot, sizeof(forward.slot), "%s", slot);
    snprintf(forward.host_address, sizeof(forward.host_address), "%s", address);
    return forward;
}

static bool has_namespaces(const struct subject *tested)
{
    return strcmp(tested->plugin, "null") != 0;
}

static int run(const struct subject *tested)
{
    const char *name = tested->plugin;
    Suite *suite;

    if (!conformance_available(DRAFTER_KIND_NETWORK, name))
        return 77;
    subject = tested;
    network_plugin = name;
    suite = suite_create(tested->value ? tested->value : name);
    if (!tested->value)
        network_add_claims(suite, has_namespaces(tested));
    if (has_namespaces(tested)) {
        if (!tested->value)
            network_add_options(suite);
        network_add_pool(suite);
        network_add_traffic(suite);
        network_add_forwards(suite);
        if (!tested->value)
            network_add_crash(suite);
    }
    return conformance_run(suite, 1);
}

int main(int argc, char **argv)
{
    bool root = argc > 1;
    const char *obstacle = root ? lab_obstacle() : NULL;
    int tested = 0, failed = 0;

    if (obstacle) {
        printf("%s\n", obstacle);
        return 77;
    }
    if (root && strcmp(argv[1], "soak") == 0)
        network_kills = SOAK_KILLS;
    for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
        int status = 77;

        if (has_namespaces(&subjects[i]) == root &&
            (argc < 3 || strcmp(argv[2], subjects[i].plugin) == 0))
            status = run(&subjects[i]);
        tested += status != 77;
        failed += status != 77 && status != 0;
    }
    if (!tested)
        printf("no such network plugin was built\n");
    return failed ? EXIT_FAILURE : tested ? EXIT_SUCCESS : 77;
}
