/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/node.h"

#include "holder/message.h"
#include "trust/plain.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#define LAYERS_MAX 16

static const char *const plain_choices[] = {"allow", "warn", "forbid", NULL};
static const char *const log_formats[] = {"auto", "human", "json", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};

const struct drafter_option node_option_table[] = {
    {.key = "role", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct node_options, role),
     .help = "what this node is: peer, registry, snapshotter, nat, forwarder, packager, "
             "runner, mounter or terminator"},
    {.key = "name", .type = DRAFTER_OPTION_STRING, .offset = offsetof(struct node_options, name),
     .default_value = "vm", .help = "name of the VM; one node runs a name once"},
    {.key = "state-directory", .type = DRAFTER_OPTION_PATH,
     .offset = offsetof(struct node_options, state_directory), .default_value = "/var/lib/drafter",
     .help = "where the ledger of ownership is kept"},
    {.key = "run-directory", .type = DRAFTER_OPTION_PATH,
     .offset = offsetof(struct node_options, run_directory), .default_value = "/run/drafter",
     .help = "where mounts, sockets and logs of running VMs are"},
    {.key = "trust", .type = DRAFTER_OPTION_PATH, .offset = offsetof(struct node_options, trust),
     .default_value = TRUST_DEFAULT_FILE, .help = "the file that says whose keys may do what"},
    {.key = "plain-transport", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct node_options, plain_transport), .default_value = "warn",
     .choices = plain_choices,
     .help = "what to do about streams beyond this host that are not encrypted"},
    {.key = "log-format", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct node_options, log_format), .default_value = "auto",
     .choices = log_formats, .help = "lines for people, or JSON; auto: by whether it is a terminal"},
    {.key = "log-level", .type = DRAFTER_OPTION_ENUM,
     .offset = offsetof(struct node_options, log_level), .default_value = "info",
     .choices = log_levels, .help = "the least important messages to write"},
    DRAFTER_OPTION_END,
};

const char *const node_section_kinds[] = {"drafter",  "transport", "storage",     "network",
                                          "exposure", "vmm",       "device",      "peer",
                                          "registry", "snapshotter", "nat",
                                          "forwarder", "forward", "packager",
                                          "runner", "mounter", "terminator", NULL};

/* A VMM that ended while no drafter was there: its holder wrote down how. */
static void read_epitaph(struct node *node)
{
    char text[16] = "";
    int fd = openat(node->lock, HOLDER_EPITAPH, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    if (read(fd, text, sizeof(text) - 1) > 0)
        log_warning("node", "VM %s: its VMM ended while no drafter was there, with wait status %d",
                    node->options.name, (int)strtol(text, NULL, 10));
    close(fd);
    unlinkat(node->lock, HOLDER_EPITAPH, 0);
}

/* One process per VM name and run-directory: the directory is its private place. */
static int lock_directory(struct node *node, struct drafter_error *err)
{
    int rc;

    if (strchr(node->options.name, '/') || *node->options.name == '.' || !*node->options.name ||
        strlen(node->options.name) > DRAFTER_NAME_MAX)
        return drafter_error_set(err, EINVAL, "\"%s\" is no name for a VM: letters, digits, at most "
                                 "%d characters", node->options.name, DRAFTER_NAME_MAX);
    if (asprintf(&node->directory, "%s/%s", node->options.run_directory, node->options.name) < 0) {
        node->directory = NULL;
        return drafter_error_set(err, ENOMEM, "out of memory");
    }
    rc = io_make_directories(node->directory, 0700, err);
    if (rc)
        return rc;
    node->lock = open(node->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (node->lock < 0) {
        drafter_error_errno(err, errno, "%s", node->directory);
        rmdir(node->directory); /* empty when it is ours alone */
        return -err->code;
    }
    if (!flock(node->lock, LOCK_EX | LOCK_NB)) {
        read_epitaph(node);
        return 0;
    }
    close(node->lock);
    node->lock = -1; /* or node_close would remove the other's directory */
    rc = holder_adopt(node->holder, node->directory, err);
    if (!rc)
        rc = holder_take(node->holder, NODE_LOCK, &node->lock);
    node->left = !rc;
    if (rc == -ENOENT)
        rc = drafter_error_set(err, EBUSY,
                               "%s: another drafter uses it; give this one another name or "
                               "run-directory", node->directory);
    return rc;
}

static int read_options(struct config *config, struct node *node, struct drafter_error *err)
{
    int rc;

    memset(node, 0, sizeof(*node));
    node->config = config;
    node->lock = -1;
    rc = config_check_kinds(config, node_section_kinds, err);
    if (!rc)
        rc = config_apply(config_section(config, "drafter", ""), node_option_table, NULL,
                          &node->options, sizeof(node->options), err);
    if (!rc)
        trust_use(node->options.trust);
    return rc;
}

int node_open(struct config *config, struct node *node, struct drafter_error *err)
{
    int rc = read_options(config, node, err);

    if (!rc)
        rc = holder_new(&node->holder, err);
    if (!rc)
        rc = lock_directory(node, err);
    if (rc)
        node_close(node);
    return rc;
}

int node_look(struct config *config, struct node *node, struct drafter_error *err)
{
    int rc = read_options(config, node, err);

    node->directory = rc ? NULL : strdup(node->options.run_directory);
    if (!rc && !node->directory)
        rc = drafter_error_set(err, ENOMEM, "out of memory");
    if (rc)
        node_close(node);
    return rc;
}

void node_close(struct node *node)
{
    while (node->count && !node->left)
        instance_free(node->instances[--node->count]);
    if (node->lock >= 0 && !node->left) {
        rmdir(node->directory);
        close(node->lock);
    }
    holder_free(node->holder);
    free(node->directory);
    config_free(node->config);
    memset(node, 0, sizeof(*node));
    node->lock = -1;
}

static int keep(struct node *node, struct instance *instance, struct drafter_error *err)
{
    if (node->count == NODE_INSTANCES_MAX) {
        instance_free(instance);
        return drafter_error_set(err, E2BIG, "more than %d plugin instances", NODE_INSTANCES_MAX);
    }
    node->instances[node->count++] = instance;
    return 0;
}

int node_make(struct node *node, enum drafter_kind kind, const char *plugin,
              const struct config_section *section,
              const char *const *overrides, const char *id, struct instance *next,
              struct instance **ret_instance, struct drafter_error *err)
{
    struct instance *instance;
    int rc = instance_new_held(kind, section, plugin, overrides, id, node->directory, next,
                               node->holder, &instance, err);

    if (!rc)
        rc = keep(node, instance, err);
    if (!rc)
        *ret_instance = instance;
    return rc;
}

static struct instance *find(struct node *node, enum drafter_kind kind, const char *id)
{
    for (unsigned i = 0; i < node->count; i++)
        if (node->instances[i]->plugin->descriptor.kind == (uint32_t)kind &&
            !strcmp(node->instances[i]->id, id))
            return node->instances[i];
    return NULL;
}

static const char *section_kind(enum drafter_kind kind)
{
    return kind == DRAFTER_KIND_DEVICE ? "exposure" : plugin_kind_name(kind);
}

static int make_layered(struct node *node, enum drafter_kind kind, const char *id, unsigned depth,
                        struct instance **ret_instance, struct drafter_error *err)
{
    const struct config_section *section = config_section(node->config, section_kind(kind), id);
    const char *below = section ? config_value(section, "next") : NULL;
    struct instance *next = NULL, *instance = find(node, kind, id);
    int rc = 0;

    if (instance) {
        *ret_instance = instance;
        return 0;
    }
    if (!section)
        return node_make(node, kind, id, NULL, NULL, id, NULL, ret_instance, err);
    if (depth == LAYERS_MAX)
        return drafter_error_set(err, EINVAL, "%s: next leads in a circle",
                                 config_where(section, "next"));
    if (below)
        rc = make_layered(node, kind, below, depth + 1, &next, err);
    if (!rc)
        rc = instance_new_held(kind, section, NULL, NULL, id, node->directory, next, node->holder,
                               &instance, err);
    if (!rc)
        rc = keep(node, instance, err);
    if (!rc)
        *ret_instance = instance;
    return rc;
}

int node_instance(struct node *node, enum drafter_kind kind, const char *id,
                  struct instance **ret_instance, struct drafter_error *err)
{
    return make_layered(node, kind, id, 0, ret_instance, err);
}
