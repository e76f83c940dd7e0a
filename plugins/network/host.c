/* SPDX-License-Identifier: BSD-2-Clause */
/* The host's side of a pool: its interface, what is in the way, and its settings. */
#include "pool.h"

#include "namespace.h"
#include "sysctl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

int host_identity(uint64_t ret_netns[2], struct drafter_error *err)
{
    int fd = namespace_open_own(), ret;

    if (fd < 0)
        return drafter_error_errno(err, errno, "this network namespace");
    ret = namespace_identity(fd, ret_netns);
    close(fd);
    return ret < 0 ? drafter_error_errno(err, -ret, "this network namespace") : 0;
}

int host_resolve(struct layout *layout, struct drafter_error *err)
{
    struct netlink netlink;
    unsigned ifindex = 0;
    int ret;

    if (layout->host_interface[0]) {
        if (if_nametoindex(layout->host_interface))
            return 0;
        return drafter_error_set(err, ENODEV, "host-interface %s: there is no such interface",
                                 layout->host_interface);
    }
    ret = netlink_open(&netlink, err);
    if (ret < 0)
        return ret;
    ret = netlink_default_link(&netlink, &ifindex, err);
    netlink_close(&netlink);
    if (ret < 0)
        return ret;
    if (!ifindex || !if_indextoname(ifindex, layout->host_interface))
        return drafter_error_set(err, ENODEV,
                                 "there is no default route whose interface could be taken: set "
                                 "host-interface");
    return 0;
}

/* What a check of the host goes through. */
struct look {
    const struct layout *layout;
    const struct table_file *made; /* slots that are there and stay */
    struct drafter_error *err;
};

static bool kept(const struct look *look, uint32_t slot)
{
    return look->made->slots[slot].state != SLOT_NONE;
}

/* The slot whose link on the host would have that name. */
static bool is_outer(const struct layout *layout, const char *name, uint32_t *ret_slot)
{
    size_t length = strlen(name), end = strlen(LAYOUT_OUTER_SUFFIX);
    char head[IFNAMSIZ];

    if (length <= end || strcmp(name + length - end, LAYOUT_OUTER_SUFFIX) != 0)
        return false;
    memcpy(head, name, length - end);
    head[length - end] = '\0';
    return layout_find(layout, head, ret_slot);
}

static int check_link(void *context, const struct netlink_link *link)
{
    const struct look *look = context;
    uint32_t slot;

    if (is_outer(look->layout, link->name, &slot)) {
        if (kept(look, slot))
            return 0;
        return drafter_error_set(look->err, EEXIST,
                                 "interface %s is there already and no pool's: remove it, or choose "
                                 "another namespace-prefix",
                                 link->name);
    }
    if (link->group == look->layout->group || link->group == layout_trash_group(look->layout))
        return drafter_error_set(look->err, EEXIST,
                                 "interface %s is in the group %u of pool \"%s\" but not its: set "
                                 "another group, or choose another namespace-prefix",
                                 link->name, link->group, look->layout->prefix);
    return 0;
}

static int check_address(void *context, unsigned ifindex, const struct address *address)
{
    const struct look *look = context;
    const struct layout_family *family =
        &look->layout->family[address->family == AF_INET6 ? LAYOUT_V6 : LAYOUT_V4];
    char name[IFNAMSIZ] = "?", mine[ADDRESS_TEXT_MAX], other[ADDRESS_TEXT_MAX];
    const struct address *subnet = &family->host_veth;
    uint32_t slot;

    if (!family->enabled)
        return 0;
    if (if_indextoname(ifindex, name) && is_outer(look->layout, name, &slot) && kept(look, slot))
        return 0;
    if (!address_overlap(subnet, address)) {
        subnet = &family->namespace_veth;
        /* Slots that show their own addresses have them from the subnet of the host interface. */
        if (family->own || !address_overlap(subnet, address))
            return 0;
    }
    return drafter_error_set(look->err, EADDRINUSE, "%s%s %s overlaps %s of interface %s",
                             subnet == &family->host_veth ? "host-veth-cidr" : "namespace-veth-cidr",
                             address->family == AF_INET6 ? "6" : "", address_cidr(subnet, mine),
                             address_cidr(address, other), name);
}

int host_check(const struct layout *layout, const struct table_file *made,
               struct drafter_error *err)
{
    struct look look = {layout, made, err};
    struct netlink netlink;
    char path[128];
    int ret;

    for (uint32_t slot = 0; slot < layout->slots; slot++) {
        layout_netns(layout, slot, path);
        if (!kept(&look, slot) && namespace_exists(path))
            return drafter_error_set(err, EEXIST,
                                     "network namespace %s is there already and no pool's: remove "
                                     "it, or choose another namespace-prefix",
                                     path);
    }
    ret = netlink_open(&netlink, err);
    if (ret < 0)
        return ret;
    ret = netlink_links(&netlink, check_link, &look, err);
    if (ret == 0)
        ret = netlink_addresses(&netlink, check_address, &look, err);
    netlink_close(&netlink);
    return ret;
}

static struct sysctl_journal journal_of(const struct pool *pool)
{
    return (struct sysctl_journal){pool->config->state_directory, pool_header(pool)->boot,
                                   pool_header(pool)->netns};
}

static int set_at(const struct sysctl_journal *journal, const char *directory,
                  const char *interface, const char *key, const char *value,
                  struct drafter_error *err)
{
    char name[128];

    snprintf(name, sizeof(name), "net/%s/%s/%s", directory, interface, key);
    return sysctl_set(journal, name, value, err);
}

/* Answers without the delay that is meant for networks with several proxies. */
static int prepare_own(const struct sysctl_journal *journal, const struct layout *layout,
                       struct drafter_error *err)
{
    const struct layout_family *v6 = &layout->family[LAYOUT_V6];
    const char *host = layout->host_interface;
    int ret = 0;

    if (layout->family[LAYOUT_V4].own)
        ret = set_at(journal, "ipv4/neigh", host, "proxy_delay", "0", err);
    if (ret == 0 && v6->enabled && v6->own &&
        (ret = set_at(journal, "ipv6/neigh", host, "proxy_delay", "0", err)) == 0)
        ret = set_at(journal, "ipv6/conf", host, "proxy_ndp", "1", err);
    return ret;
}

/* A host that forwards IPv6 would no longer listen to its router, where it did. */
static int prepare_v6(const struct sysctl_journal *journal, const char *host,
                      struct drafter_error *err)
{
    char name[128], value[16];
    int ret = 0;

    snprintf(name, sizeof(name), "net/ipv6/conf/%s/accept_ra", host);
    if (sysctl_get(name, value, sizeof(value)) && strcmp(value, "1") == 0)
        ret = sysctl_set(journal, name, "2", err);
    return ret < 0 ? ret : sysctl_set(journal, "net/ipv6/conf/all/forwarding", "1", err);
}

/* Until it is closed no other pool of the directory changes settings, or goes. */
static int lock_settings(const struct pool *pool)
{
    int fd = open(pool->config->state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    /* Where it cannot be opened, nothing was written down in it. */
    if (fd >= 0)
        flock(fd, LOCK_EX);
    return fd;
}

static void unlock_settings(int fd)
{
    if (fd >= 0)
        close(fd);
}

int host_prepare(const struct pool *pool, struct drafter_error *err)
{
    const struct layout *layout = &pool_header(pool)->layout;
    struct sysctl_journal journal = journal_of(pool);
    int fd = lock_settings(pool);
    int ret = sysctl_set(&journal, "net/ipv4/ip_forward", "1", err);

    if (ret == 0 && layout->family[LAYOUT_V6].enabled)
        ret = prepare_v6(&journal, layout->host_interface, err);
    if (ret == 0)
        ret = prepare_own(&journal, layout, err);
    unlock_settings(fd);
    return ret;
}

/* Whether the state directory has another pool. */
static bool others(const struct pool *pool)
{
    const char *mine = strrchr(pool->table.path, '/') + 1;
    DIR *directory = opendir(pool->config->state_directory);
    struct dirent *entry;
    bool found = false;

    while (directory && !found && (entry = readdir(directory))) {
        size_t length = strlen(entry->d_name);

        found = length > 5 && strcmp(entry->d_name + length - 5, ".pool") == 0 &&
                strcmp(entry->d_name, mine) != 0;
    }
    if (directory)
        closedir(directory);
    return found;
}

int host_leave(struct pool *pool, bool here, bool whole, struct drafter_error *err)
{
    struct sysctl_journal journal = journal_of(pool);
    int fd = lock_settings(pool), ret = 0;

    if (here && !others(pool))
        ret = sysctl_restore(&journal, err);
    /* Under the lock: of two pools that go at the same time the second has to see that it is the last. */
    if (ret == 0 && whole)
        table_unlink(&pool->table);
    unlock_settings(fd);
    return ret;
}
