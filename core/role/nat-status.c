/* SPDX-License-Identifier: BSD-2-Clause */
/* `drafter nat status`: who has which slot of a pool, and which ports of the host lead to them. */
#include "role/nat.h"

#include "plugin/network.h"
#include "util/json.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct listing {
    json_t *slots, *forwards; /* NULL: lines */
    unsigned forward_count;
};

static const char *or_dash(const char *text)
{
    return *text ? text : "-";
}

static const char *state_of(const struct drafter_network_status *status)
{
    if (status->stale)
        return "stale";
    if (!*status->owner)
        return "free";
    return status->announced ? "announced" : "claimed";
}

static int print_slot(void *context, const struct drafter_network_status *status)
{
    const struct drafter_network_slot *slot = &status->slot;

    (void)context;
    printf("%-10s %-10s %-18s %8lld %-15s %-24s %s\n", slot->name, state_of(status),
           or_dash(status->owner), (long long)status->pid, or_dash(slot->address),
           or_dash(slot->address6), or_dash(status->host_interface));
    return 0;
}

/* Members that a plugin has nothing for are left out. */
static void put(json_t *object, const char *key, const char *text)
{
    if (*text)
        json_object_set_new(object, key, json_string(text));
}

static int add_slot(void *context, const struct drafter_network_status *status)
{
    const struct drafter_network_slot *slot = &status->slot;
    const struct listing *listing = context;
    json_t *object = json_pack("{s:s, s:s}", "name", slot->name, "state", state_of(status));

    put(object, "owner", status->owner);
    if (status->pid > 0)
        json_object_set_new(object, "pid", json_integer(status->pid));
    put(object, "netns", slot->netns);
    put(object, "tap", slot->tap);
    put(object, "mac", slot->mac);
    put(object, "address", slot->address);
    put(object, "address6", slot->address6);
    put(object, "guest", slot->guest);
    put(object, "gateway", slot->gateway);
    put(object, "guest6", slot->guest6);
    put(object, "gateway6", slot->gateway6);
    put(object, "hostInterface", status->host_interface);
    put(object, "hostAddress", status->host_address);
    put(object, "hostAddress6", status->host_address6);
    return json_array_append_new(listing->slots, object);
}

static const char *protocol_name(const struct drafter_network_forward *forward)
{
    return forward->protocol == IPPROTO_UDP ? "udp" : "tcp";
}

static int print_forward(void *context, const struct drafter_network_forward *forward, int64_t pid)
{
    struct listing *listing = context;
    bool v6 = strchr(forward->host_address, ':') != NULL;

    if (listing->forward_count++ == 0)
        printf("\n%-48s %-4s %-16s %-18s %8s\n", "FORWARDED", "", "TO", "OWNER", "PID");
    printf("%s%s%s:%-*u %-4s %s:%-*u %-18s %8lld\n", v6 ? "[" : "", forward->host_address,
           v6 ? "]" : "", (int)(47 - strlen(forward->host_address) - (v6 ? 2 : 0)),
           (unsigned)forward->host_port, protocol_name(forward), forward->slot,
           (int)(15 - strnlen(forward->slot, 14)), (unsigned)forward->guest_port, forward->owner,
           (long long)pid);
    return 0;
}

static int add_forward(void *context, const struct drafter_network_forward *forward, int64_t pid)
{
    const struct listing *listing = context;

    return json_array_append_new(
        listing->forwards,
        json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:I}", "netns", forward->slot, "internalPort",
                  (int)forward->guest_port, "protocol", protocol_name(forward), "externalAddress",
                  forward->host_address, "externalPort", (int)forward->host_port, "owner",
                  forward->owner, "pid", (json_int_t)pid));
}

static int list(struct instance *network, struct listing *listing, struct drafter_error *err)
{
    bool json = listing->slots != NULL;
    int rc;

    if (!json)
        printf("%-10s %-10s %-18s %8s %-15s %-24s %s\n", "SLOT", "STATE", "OWNER", "PID", "ADDRESS",
               "ADDRESS6", "INTERFACE");
    rc = network_list(network, json ? add_slot : print_slot, listing, err);
    if (rc)
        return rc;
    rc = network_forward_list(network, json ? add_forward : print_forward, listing, err);
    if (rc == -ENOTSUP) {
        *err = (struct drafter_error){0};
        return 0;
    }
    return rc;
}

int nat_status(struct node *node, bool json, struct drafter_error *err)
{
    struct listing listing = {.slots = json ? json_array() : NULL,
                              .forwards = json ? json_array() : NULL};
    struct nat_options options = {0};
    struct instance *network;
    int rc = config_apply(config_section(node->config, "nat", ""), nat_option_table, NULL, &options,
                          sizeof(options), err);

    if (!rc)
        rc = node_instance(node, DRAFTER_KIND_NETWORK, options.network, &network, err);
    if (!rc)
        rc = list(network, &listing, err);
    if (!rc && json) {
        cleanup_json json_t *all = json_pack("{s:s, s:O, s:O}", "network", options.network, "slots",
                                             listing.slots, "forwards", listing.forwards);

        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(listing.slots);
    json_decref(listing.forwards);
    return rc;
}
