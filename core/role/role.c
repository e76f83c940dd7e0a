/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/role.h"

#include "config/config.h"
#include "options.h"
#include "role/peer.h"
#include "role/registry.h"
#include "role/snapshotter.h"

#include <sodium.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(struct node *node, struct drafter_error *err);
} roles[] = {
    {"peer", peer_run},
    {"registry", registry_run},
    {"snapshotter", snapshotter_run},
};
enum { ROLE_COUNT = sizeof(roles) / sizeof(roles[0]) };

const char *const role_names[] = {"peer", "registry", "snapshotter", NULL};

static int find_role(const char *name, unsigned *ret_index, struct drafter_error *err)
{
    for (unsigned i = 0; name && i < ROLE_COUNT; i++)
        if (!strcmp(roles[i].name, name)) {
            *ret_index = i;
            return 0;
        }
    return drafter_error_set(err, EINVAL,
                             "role %s is unknown; [drafter] role can be peer, registry or "
                             "snapshotter",
                             name ? name : "(none)");
}

/* The command line wins where it says something else than its defaults. */
static void adopt_log_options(const struct options *options, const struct node_options *node)
{
    log_setup(options->log_format == LOG_FORMAT_AUTO ? (enum log_format)node->log_format
                                                     : options->log_format,
              options->log_level == DRAFTER_LOG_INFO ? (enum drafter_log_level)node->log_level
                                                     : options->log_level);
}

int role_run(const char *role, const struct options *options, struct drafter_error *err)
{
    struct config *config;
    struct node node;
    unsigned index = 0;
    int rc;

    if (options->rest_count)
        return drafter_error_set(err, EINVAL, "a role takes no argument \"%s\"", options->rest[0]);
    if (!options->config)
        return drafter_error_set(err, EINVAL, "%s needs --config FILE", role);
    if (sodium_init() < 0)
        return drafter_error_set(err, EIO, "libsodium does not start");
    rc = config_load(options->config, &config, err);
    if (rc) /* a directory, or a file that is too long: no configuration */
        return rc == -ENOENT || rc == -EACCES ? rc : -EINVAL;
    rc = node_open(config, &node, err);
    if (rc)
        return rc;
    adopt_log_options(options, &node.options);
    rc = find_role(role ? role : node.options.role, &index, err);
    if (!rc)
        rc = roles[index].run(&node, err);
    node_close(&node);
    return rc;
}
