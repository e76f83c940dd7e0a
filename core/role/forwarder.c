/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Each forward holds its port of the host with a socket that is bound and never used: processes of the
 * host cannot take the port, nor can it be given to an outgoing connection.
 */
#include "role/forwarder.h"

#include "plugin/network.h"
#include "role/attend.h"
#include "role/port.h"
#include "role/supervise.h"
#include "util/cleanup.h"
#include "util/log.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/select.h>

#define FORWARDS_MAX 4096

struct forwarder {
    struct node *node;
    struct forwarder_options options;
    struct instance *network;
    struct supervisor supervisor;
    struct drafter_network_forward *forwards;
    int *sockets; /* which hold the ports */
    size_t count;
};

static const char *const protocols[] = {"tcp", "udp", NULL};

#define OPTION(struct_, key_, type_, field_, default_, help_)                                      \
    {.key = key_, .type = DRAFTER_OPTION_##type_, .offset = offsetof(struct struct_, field_),        \
     .default_value = default_, .help = help_}

const struct drafter_option forwarder_option_table[] = {
    OPTION(forwarder_options, "network", STRING, network, DEFAULT_NETWORK,
           "id of a [network:ID] section, or a network plugin: whose pool to use"),
    {.key = "check-interval", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct forwarder_options, check_interval), .default_value = "2s",
     .minimum = 100000000, .maximum = UINT64_C(3600000000000),
     .help = "how often to see whether the pool is still there"},
    DRAFTER_OPTION_END,
};

const struct drafter_option forward_option_table[] = {
    {.key = "netns", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct forward_options, netns), .help = "slot of the VM"},
    {.key = "internal-port", .type = DRAFTER_OPTION_UINT, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct forward_options, internal_port), .minimum = 1, .maximum = 65535,
     .help = "port of the guest"},
    {.key = "protocol", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct forward_options, protocol), .default_value = "tcp",
     .choices = protocols, .help = "what is forwarded"},
    {.key = "external-addr", .type = DRAFTER_OPTION_STRING, .flags = DRAFTER_OPTION_REQUIRED,
     .offset = offsetof(struct forward_options, external_address),
     .help = "address and port of the host: 127.0.0.1:3333, [::1]:3333; 0.0.0.0 and [::] are all "
             "addresses of the host"},
    DRAFTER_OPTION_END,
};

const struct config_flag forwarder_flags[] = {
    {.name = "host-veth-cidr", .kind = "network", .key = "host-veth-cidr",
     .help = "what the pool was made with, where that is not the default"},
    {.name = "namespace-prefix", .kind = "network", .key = "namespace-prefix",
     .help = "name of the pool, where that is not the default"},
    {.name = "port-forwards", .kind = "forward", .form = CONFIG_FLAG_OBJECTS,
     .default_value = "[{\"netns\":\"ark0\",\"internalPort\":\"6379\",\"protocol\":\"tcp\","
                      "\"externalAddr\":\"127.0.0.1:3333\"}]",
     .help = "what to forward, an object for each"},
    {0},
};

static int read_forward(const struct config_section *section, const char *owner,
                        struct drafter_network_forward *forward, struct drafter_error *err)
{
    struct forward_options options = {0};
    int rc = config_apply(section, forward_option_table, NULL, &options, sizeof(options), err);

    if (rc)
        return rc;
    if (strlen(options.netns) >= sizeof(forward->slot))
        return drafter_error_set(err, EINVAL, "%s: '%.64s...' is no slot",
                                 config_where(section, "netns"), options.netns);
    snprintf(forward->slot, sizeof(forward->slot), "%s", options.netns);
    snprintf(forward->owner, sizeof(forward->owner), "%s", owner);
    forward->protocol = options.protocol ? IPPROTO_UDP : IPPROTO_TCP;
    forward->guest_port = (uint16_t)options.internal_port;
    rc = port_parse(options.external_address, forward->host_address, sizeof(forward->host_address),
                    &forward->host_port, err);
    return rc ? drafter_error_wrap(err, "%s", config_where(section, "external-addr")) : 0;
}

static int read_forwards(struct forwarder *forwarder, struct drafter_error *err)
{
    const struct config *config = forwarder->node->config;
    const struct config_section *section = NULL;
    size_t count = 0;

    while ((section = config_next(config, "forward", section)))
        count++;
    if (count == 0)
        return drafter_error_set(err, EINVAL, "%s: there is nothing to forward; add a [forward:ID] "
                                 "section", config_origin(config));
    if (count > FORWARDS_MAX)
        return drafter_error_set(err, EINVAL, "%s: more than %d forwards", config_origin(config),
                                 FORWARDS_MAX);
    forwarder->forwards = calloc(count, sizeof(*forwarder->forwards));
    forwarder->sockets = calloc(count, sizeof(*forwarder->sockets));
    if (!forwarder->forwards || !forwarder->sockets)
        return drafter_error_set(err, ENOMEM, "out of memory");
    while ((section = config_next(config, "forward", section))) {
        int rc = read_forward(section, forwarder->node->options.name,
                              &forwarder->forwards[forwarder->count], err);

        if (rc)
            return rc;
        forwarder->sockets[forwarder->count++] = -1;
    }
    return 0;
}

/* Who forwards a port already; sockets that are only bound nobody can look up. */
struct search {
    const struct drafter_network_forward *wanted;
    struct drafter_network_forward found;
    int64_t pid;
};

static bool is_wildcard(const char *address)
{
    return !strcmp(address, "0.0.0.0") || !strcmp(address, "::");
}

static bool collide(const struct drafter_network_forward *forward,
                    const struct drafter_network_forward *wanted)
{
    bool same_family = !strchr(forward->host_address, ':') == !strchr(wanted->host_address, ':');

    return forward->protocol == wanted->protocol && forward->host_port == wanted->host_port &&
           same_family &&
           (strcmp(forward->host_address, wanted->host_address) == 0 ||
            is_wildcard(forward->host_address) || is_wildcard(wanted->host_address));
}

static int match(void *context, const struct drafter_network_forward *forward, int64_t pid)
{
    struct search *search = context;

    if (pid == getpid() || !collide(forward, search->wanted))
        return 0;
    search->found = *forward;
    search->pid = pid;
    return 0;
}

static int refuse_port(const struct forwarder *forwarder,
                       const struct drafter_network_forward *wanted, struct drafter_error *err)
{
    struct search search = {.wanted = wanted};

    for (const struct drafter_network_forward *earlier = forwarder->forwards; earlier < wanted;
         earlier++)
        if (collide(earlier, wanted))
            return drafter_error_set(err, EADDRINUSE,
                                     "%s port %u is to be forwarded twice, to %s and to %s",
                                     wanted->host_address, (unsigned)wanted->host_port,
                                     earlier->slot, wanted->slot);
    if (network_forward_list(forwarder->network, match, &search, NULL) || search.pid == 0)
        return -EADDRINUSE;
    return drafter_error_set(err, EADDRINUSE, "%s port %u is forwarded to %s by %s (process %lld)",
                             wanted->host_address, (unsigned)wanted->host_port, search.found.slot,
                             search.found.owner, (long long)search.pid);
}

/* Out of the numbers that select(2) can take: libraries that use it get those. */
static void move_high(int *fd)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, FD_SETSIZE);

    if (high < 0)
        return; /* few descriptors are allowed: then there are few */
    close(*fd);
    *fd = high;
}

static int hold_ports(struct forwarder *forwarder, struct drafter_error *err)
{
    for (size_t i = 0; i < forwarder->count; i++) {
        const struct drafter_network_forward *forward = &forwarder->forwards[i];
        int rc = port_hold(forward->protocol, forward->host_address, forward->host_port,
                           &forwarder->sockets[i], err);

        if (rc)
            return rc == -EADDRINUSE ? refuse_port(forwarder, forward, err) : rc;
        move_high(&forwarder->sockets[i]);
    }
    return 0;
}

static int count_ours(void *context, const struct drafter_network_forward *forward, int64_t pid)
{
    (void)forward;
    *(size_t *)context += pid == getpid();
    return 0;
}

/* Forwards end with their pool. */
static int check_pool(const struct forwarder *forwarder, struct drafter_error *err)
{
    size_t count = 0;
    int rc = network_forward_list(forwarder->network, count_ours, &count, err);

    if (rc == 0 && count < forwarder->count)
        return drafter_error_set(err, ENOENT, "the pool of %s was removed, and its forwards with it",
                                 forwarder->network->id);
    return rc;
}

static void status(void *opaque, json_t *answer)
{
    const struct forwarder *forwarder = opaque;

    json_object_set_new(answer, "network", json_string(forwarder->network->id));
    json_object_set_new(answer, "forwards", json_integer((json_int_t)forwarder->count));
}

static int forward(struct forwarder *forwarder, struct drafter_error *err)
{
    int interval_ms = (int)(forwarder->options.check_interval / 1000000);
    struct attendant attendant = {.node = forwarder->node, .status = status, .opaque = forwarder};
    struct drafter_error error = {0};
    int rc = network_forward_add(forwarder->network, forwarder->forwards, forwarder->count, err);

    if (rc)
        return rc;
    log_event("forwarding", "\"network\":\"%s\",\"forwards\":%zu", forwarder->network->id,
              forwarder->count);
    attendant_start(&attendant);
    do
        rc = check_pool(forwarder, err);
    while (!rc && supervisor_wait(&forwarder->supervisor, interval_ms) != WAKEUP_SIGNAL);
    attendant_stop(&attendant);
    if (network_forward_remove(forwarder->network, forwarder->forwards, forwarder->count, &error)) {
        if (!rc)
            *err = error;
        return rc ? rc : -error.code;
    }
    return rc;
}

static void release(struct forwarder *forwarder)
{
    for (size_t i = 0; i < forwarder->count; i++)
        if (forwarder->sockets[i] >= 0)
            close(forwarder->sockets[i]);
    free(forwarder->sockets);
    free(forwarder->forwards);
    supervisor_release(&forwarder->supervisor);
}

int forwarder_run(struct node *node, struct drafter_error *err)
{
    struct forwarder forwarder = {.node = node};
    int rc = config_apply(config_section(node->config, "forwarder", ""), forwarder_option_table,
                          NULL, &forwarder.options, sizeof(forwarder.options), err);

    if (rc)
        return rc;
    rc = supervisor_init(&forwarder.supervisor, err);
    if (!rc)
        rc = read_forwards(&forwarder, err);
    if (!rc)
        rc = node_instance(node, DRAFTER_KIND_NETWORK, forwarder.options.network,
                           &forwarder.network, err);
    if (!rc)
        rc = hold_ports(&forwarder, err);
    if (!rc)
        rc = forward(&forwarder, err);
    release(&forwarder);
    return rc;
}
