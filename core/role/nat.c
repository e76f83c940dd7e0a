/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/nat.h"

#include "plugin/network.h"
#include "role/attend.h"
#include "role/supervise.h"
#include "util/log.h"
#include "util/proc.h"

#include <string.h>

struct nat {
    struct nat_options options;
    struct instance *network;
    struct supervisor supervisor;
    bool cancelled;
};

#define OPTION(key_, type_, field_, default_, help_)                                               \
    {.key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct nat_options, field_),    \
     .default_value = default_, .help = help_}

const struct drafter_option nat_option_table[] = {
    OPTION("network", STRING, network, DEFAULT_NETWORK,
           "id of a [network:ID] section, or a network plugin: whose pool to make"),
    OPTION("before-create", PATH, before_create, NULL,
           "program to run before a namespace is made, with its name as argument; a failure ends the "
           "set-up"),
    OPTION("before-remove", PATH, before_remove, NULL,
           "program to run before a namespace is removed, with its name as argument"),
    {.key = "hook-timeout", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct nat_options, hook_timeout), .default_value = "10s",
     .minimum = 1000000, .maximum = UINT64_C(3600000000000), .help = "how long one of them may take"},
    {.key = "reclaim-interval", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct nat_options, reclaim_interval), .default_value = "5s",
     .minimum = 100000000, .maximum = UINT64_C(3600000000000),
     .help = "how often slots and forwards of processes that ended are freed"},
    DRAFTER_OPTION_END,
};

#define NETWORK_FLAG(name_, form_, default_, help_)                                                \
    {.name = name_, .kind = "network", .key = name_, .form = CONFIG_FLAG_##form_,                  \
     .plugin_default = default_, .help = help_}

const struct config_flag nat_flags[] = {
    NETWORK_FLAG("host-interface", TEXT, NULL, "interface of the host that leads to the world; without "
                                               "it that of the default route"),
    NETWORK_FLAG("host-veth-cidr", TEXT, "10.0.8.0/22",
                 "addresses of the links between the host and the namespaces"),
    NETWORK_FLAG("namespace-veth-cidr", TEXT, "10.0.15.0/24", "unique addresses of the VMs"),
    NETWORK_FLAG("blocked-subnet-cidr", TEXT, "10.0.15.0/24",
                 "what VMs neither reach nor are reached from; empty for none"),
    NETWORK_FLAG("namespace-interface", TEXT, "tap0", "name of the tap in each namespace"),
    NETWORK_FLAG("namespace-interface-gateway", TEXT, "172.16.0.1",
                 "address of the tap, the guest's gateway"),
    NETWORK_FLAG("namespace-interface-netmask", TEXT, "30", "length of the guest's prefix"),
    NETWORK_FLAG("namespace-interface-ip", TEXT, "172.16.0.2", "address of every guest"),
    NETWORK_FLAG("namespace-interface-mac", TEXT, "02:0e:d9:fd:68:3d", "MAC of every guest"),
    NETWORK_FLAG("namespace-prefix", TEXT, "ark",
                 "what the names of the namespaces begin with; also the pool's name"),
    NETWORK_FLAG("allow-incoming-traffic", SWITCH, "yes",
                 "whether connections to VMs can be opened from outside"),
    NETWORK_FLAG("slots", TEXT, "0", "number of namespaces, 0 for as many as the subnets hold"),
    NETWORK_FLAG("ipv6", SWITCH, "no", "whether namespaces have IPv6 too"),
    NETWORK_FLAG("outside-address", TEXT, "host",
                 "address that VMs leave with: host, the host's, or own, that of their slot"),
    {0},
};

/* ---- hooks */

static int run_hook(const struct nat *nat, const char *program, const char *slot,
                    struct drafter_error *err)
{
    const char *const argv[] = {program, slot, NULL};

    if (!program)
        return 0;
    return proc_run(argv, (unsigned)(nat->options.hook_timeout / 1000000), 4096, NULL, err);
}

/* Also where a set-up of many slots hears that it is not wanted any more. */
static int before_create(void *context, const char *slot, struct drafter_error *err)
{
    struct nat *nat = context;

    if (supervisor_wait(&nat->supervisor, 0) == WAKEUP_SIGNAL) {
        nat->cancelled = true;
        return drafter_error_set(err, ECANCELED, "cancelled before %s was made", slot);
    }
    return run_hook(nat, nat->options.before_create, slot, err);
}

static int before_remove(void *context, const char *slot, struct drafter_error *err)
{
    const struct nat *nat = context;

    return run_hook(nat, nat->options.before_remove, slot, err);
}

/* ---- the pool */

static int count_slot(void *context, const struct drafter_network_status *status)
{
    (void)status;
    ++*(unsigned *)context;
    return 0;
}

static unsigned count_slots(const struct nat *nat)
{
    struct drafter_error error = {0};
    unsigned count = 0;

    if (network_list(nat->network, count_slot, &count, &error))
        log_warning("nat", "%s", error.message);
    return count;
}

static void reclaim(const struct nat *nat)
{
    struct drafter_error error = {0};
    size_t count = 0;

    if (network_reclaim(nat->network, &count, &error))
        log_warning("nat", "%s", error.message);
    else if (count > 0)
        log_event("reclaimed", "\"count\":%zu", count);
}

static void status(void *opaque, json_t *answer)
{
    const struct nat *nat = opaque;

    json_object_set_new(answer, "network", json_string(nat->network->id));
    json_object_set_new(answer, "slots", json_integer(count_slots(nat)));
}

static int keep_pool(struct nat *nat, const struct node *node, struct drafter_error *err)
{
    struct attendant attendant = {.node = node, .status = status, .opaque = nat};
    const struct drafter_network_hooks hooks = {
        .context = nat, .before_create = before_create, .before_remove = before_remove};
    uint64_t started = drafter_now_ns();
    int interval_ms = (int)(nat->options.reclaim_interval / 1000000);
    int rc = network_pool_open(nat->network, &hooks, err);

    if (rc)
        return nat->cancelled ? drafter_error_set(err, ECANCELED, "cancelled") : rc;
    log_event("ready", "\"network\":\"%s\",\"slots\":%u,\"ms\":%.1f", nat->network->id,
              count_slots(nat), (double)(drafter_now_ns() - started) / 1e6);
    attendant_start(&attendant);
    while (supervisor_wait(&nat->supervisor, interval_ms) != WAKEUP_SIGNAL)
        reclaim(nat);
    attendant_stop(&attendant);
    started = drafter_now_ns();
    rc = network_pool_close(nat->network, err);
    if (!rc)
        log_event("removed", "\"network\":\"%s\",\"ms\":%.1f", nat->network->id,
                  (double)(drafter_now_ns() - started) / 1e6);
    return rc;
}

int nat_run(struct node *node, struct drafter_error *err)
{
    struct nat nat = {0};
    int rc = config_apply(config_section(node->config, "nat", ""), nat_option_table, NULL,
                          &nat.options, sizeof(nat.options), err);

    if (rc)
        return rc;
    rc = supervisor_init(&nat.supervisor, err);
    if (!rc)
        rc = node_instance(node, DRAFTER_KIND_NETWORK, nat.options.network, &nat.network, err);
    if (!rc)
        rc = keep_pool(&nat, node, err);
    supervisor_release(&nat.supervisor);
    return rc;
}
