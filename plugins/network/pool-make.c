/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making slots.  The kernel makes namespaces and links one at a time for the most part, but not
 * altogether: a few threads get through in little more than half the time of one.  A thread moves into the
 * namespace that it makes, so that everything in it is made at home, the host's end of the link
 * included; a socket that it opened before goes on speaking with the host.
 *
 * The thread that called goes ahead of them: hooks, then the mark in the record, then leave to make the
 * slot.  It never leaves the host's namespace.
 */
#include "pool.h"

#include "namespace.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS_MAX 4
#define SLOTS_PER_THREAD 4 /* below that another thread is not worth it */

struct making {
    struct pool *pool;
    const struct layout *layout;
    int host_fd;
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t next, released; /* slots below `released` may be made */
    bool ended;              /* no more will be released */
    struct drafter_error error;
};

/* What the kernel would give itself has to wait for duplicate detection. */
static const struct address inner_local = {{0xfe, 0x80, [15] = 1}, AF_INET6, 64, {0}};
static const struct address outer_local = {{0xfe, 0x80, [15] = 2}, AF_INET6, 64, {0}};

/* Settings of a slot's namespace end with it. */
static int set_inside(const char *path, struct drafter_error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

    if (fd < 0 || write(fd, "1", 1) != 1)
        ret = drafter_error_errno(err, errno, "%s", path);
    if (fd >= 0)
        close(fd);
    return ret;
}

static void add_inner(struct netlink *netlink, const struct layout *layout, uint32_t slot,
                      unsigned link, unsigned tap)
{
    struct slot_macs macs;

    netlink_link_quiet6(netlink, tap);
    netlink_link_quiet6(netlink, link);
    netlink_link_up(netlink, tap, layout->tap_mac);
    netlink_link_up(netlink, link, NULL);
    layout_macs(slot, &macs);
    for (int family = 0; family < LAYOUT_FAMILIES; family++) {
        const struct layout_family *of = &layout->family[family];
        struct slot_addresses addresses;

        if (!of->enabled)
            continue;
        layout_slot(layout, slot, family, &addresses);
        if (family == LAYOUT_V6) {
            netlink_address(netlink, tap, &inner_local);
            netlink_address(netlink, link, &inner_local);
        }
        netlink_address(netlink, tap, &of->gateway);
        netlink_address(netlink, link, &addresses.inner);
        netlink_neighbour(netlink, link, &addresses.outer, macs.outer);
        netlink_route(netlink, link, NULL, &addresses.outer);
    }
}

static void add_outer(struct netlink *netlink, const struct layout *layout, uint32_t slot,
                      unsigned link)
{
    struct slot_macs macs;

    layout_macs(slot, &macs);
    netlink_link_quiet6(netlink, link);
    netlink_link_up(netlink, link, NULL);
    for (int family = 0; family < LAYOUT_FAMILIES; family++) {
        struct slot_addresses addresses;

        if (!layout->family[family].enabled)
            continue;
        layout_slot(layout, slot, family, &addresses);
        if (family == LAYOUT_V6)
            netlink_address(netlink, link, &outer_local);
        netlink_address(netlink, link, &addresses.outer);
        netlink_neighbour(netlink, link, &addresses.inner, macs.inner);
        netlink_route(netlink, link, &addresses.unique, &addresses.inner);
    }
}

/* The host's end, by its name: the socket of the host's namespace knows the number. */
static int outer_index(const struct making *making, uint32_t slot, int host_socket,
                       unsigned *ret_ifindex, struct drafter_error *err)
{
    struct ifreq request = {0};

    layout_outer(making->layout, slot, request.ifr_name);
    if (ioctl(host_socket, SIOCGIFINDEX, &request) < 0)
        return drafter_error_errno(err, errno, "%s", request.ifr_name);
    *ret_ifindex = (unsigned)request.ifr_ifindex;
    return 0;
}

static int make_links(const struct making *making, uint32_t slot, struct netlink *host,
                      int host_socket, struct drafter_error *err)
{
    char inner[IFNAMSIZ], outer[IFNAMSIZ];
    struct slot_macs macs;
    struct netlink netlink;
    unsigned ifindex = 0;
    int ret = netlink_open(&netlink, err);

    if (ret < 0)
        return ret;
    layout_macs(slot, &macs);
    layout_inner(making->layout, slot, inner);
    layout_outer(making->layout, slot, outer);
    netlink_veth(&netlink, inner, outer, &macs, making->host_fd, making->layout->group);
    ret = netlink_flush(&netlink, err);
    if (ret == 0)
        ret = outer_index(making, slot, host_socket, &ifindex, err);
    if (ret == 0) {
        add_outer(host, making->layout, slot, ifindex);
        ret = netlink_flush(host, err);
    }
    if (ret == 0) {
        add_inner(&netlink, making->layout, slot, if_nametoindex(inner),
                  if_nametoindex(making->layout->tap));
        ret = netlink_flush(&netlink, err);
    }
    netlink_close(&netlink);
    return ret;
}

static int forward_v6(struct drafter_error *err)
{
    return set_inside("/proc/sys/net/ipv6/conf/all/forwarding", err);
}

/*
 * A guest that was here before and comes back has gone on elsewhere: what the namespace remembers of its
 * connections is out of date, and a strict window check would take their packets for invalid.
 */
static int tolerate_absence(struct drafter_error *err)
{
    return set_inside("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", err);
}

static int make_slot(const struct making *making, uint32_t slot, struct netlink *host,
                     int host_socket, struct drafter_error *err)
{
    const struct layout *layout = making->layout;
    struct pool *pool = making->pool;
    char path[128];
    int ret;

    layout_netns(layout, slot, path);
    if ((ret = namespace_create(path, err)) < 0 || (ret = tap_create(layout->tap, err)) < 0 ||
        (layout->family[LAYOUT_V6].enabled && (ret = forward_v6(err)) < 0) ||
        (ret = pool->backend->slot_apply(pool->plugin_config, layout, slot, err)) < 0 ||
        (ret = tolerate_absence(err)) < 0 ||
        (ret = make_links(making, slot, host, host_socket, err)) < 0)
        return drafter_error_wrap(err, "slot %s", path + strlen(LAYOUT_NETNS_DIRECTORY) + 1);
    __atomic_store_n(&pool->table.file->slots[slot].state, SLOT_READY, __ATOMIC_RELEASE);
    return 0;
}

static void fail(struct making *making, const struct drafter_error *error)
{
    pthread_mutex_lock(&making->lock);
    if (!making->error.code)
        making->error = *error;
    pthread_cond_broadcast(&making->changed);
    pthread_mutex_unlock(&making->lock);
}

/* The next slot to make; false when there is none. */
static bool next_slot(struct making *making, uint32_t *ret_slot)
{
    const struct table_slot *slots = making->pool->table.file->slots;
    bool found = false;

    pthread_mutex_lock(&making->lock);
    while (!found && !making->error.code) {
        while (making->next < making->released && slots[making->next].state != SLOT_MAKING)
            making->next++;
        if (making->next < making->released) {
            *ret_slot = making->next++;
            found = true;
        } else if (making->ended) {
            break;
        } else {
            pthread_cond_wait(&making->changed, &making->lock);
        }
    }
    pthread_mutex_unlock(&making->lock);
    return found;
}

static void *work(void *opaque)
{
    struct making *making = opaque;
    struct drafter_error error = {0};
    int host_socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct netlink host = {0};
    uint32_t slot;

    if (host_socket < 0)
        drafter_error_errno(&error, errno, "socket");
    else if (netlink_open(&host, &error) == 0)
        while (next_slot(making, &slot) && make_slot(making, slot, &host, host_socket, &error) == 0)
            ;
    if (error.code)
        fail(making, &error);
    netlink_close(&host);
    if (host_socket >= 0)
        close(host_socket);
    return NULL;
}

/* Hook and mark for each slot that is not there; then leave to make it. */
static void release_slots(struct making *making)
{
    struct pool *pool = making->pool;
    struct drafter_error error = {0};
    char name[IFNAMSIZ];

    for (uint32_t slot = 0; slot < making->layout->slots && !error.code; slot++) {
        struct table_slot *record = &pool->table.file->slots[slot];
        bool missing = record->state == SLOT_NONE;

        layout_name(making->layout, slot, name);
        if (missing && pool->hooks.before_create &&
            pool->hooks.before_create(pool->hooks.context, name, &error) < 0) {
            drafter_error_wrap(&error, "hook before creating %s", name);
            break;
        }
        if (missing)
            __atomic_store_n(&record->state, SLOT_MAKING, __ATOMIC_RELEASE);
        pthread_mutex_lock(&making->lock);
        making->released = slot + 1;
        if (making->error.code)
            error = making->error;
        pthread_cond_signal(&making->changed);
        pthread_mutex_unlock(&making->lock);
    }
    if (error.code)
        fail(making, &error);
    pthread_mutex_lock(&making->lock);
    making->ended = true;
    pthread_cond_broadcast(&making->changed);
    pthread_mutex_unlock(&making->lock);
}

static unsigned thread_count(uint32_t slots)
{
    cpu_set_t cpus;
    unsigned count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;

    if (count > THREADS_MAX)
        count = THREADS_MAX;
    if (count > 1 + slots / SLOTS_PER_THREAD)
        count = 1 + slots / SLOTS_PER_THREAD;
    return count;
}

int pool_make(struct pool *pool, struct drafter_error *err)
{
    struct making making = {.pool = pool,
                            .layout = &pool_header(pool)->layout,
                            .lock = PTHREAD_MUTEX_INITIALIZER,
                            .changed = PTHREAD_COND_INITIALIZER,
                            .host_fd = namespace_open_own()};
    unsigned wanted = thread_count(making.layout->slots), started = 0;
    pthread_t threads[THREADS_MAX];

    if (making.host_fd < 0)
        return drafter_error_errno(err, errno, "this network namespace");
    while (started < wanted && pthread_create(&threads[started], NULL, work, &making) == 0)
        started++;
    if (started)
        release_slots(&making);
    else
        drafter_error_set(&making.error, EAGAIN, "no thread could be started");
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    close(making.host_fd);
    if (making.error.code && err)
        *err = making.error;
    return -making.error.code;
}
