/* SPDX-License-Identifier: BSD-2-Clause */
/* Whether this host can do it, found out in a namespace that goes with the thread that tries. */
#include "pool.h"

#include "namespace.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

struct attempt {
    int (*rules)(struct drafter_error *err);
    struct drafter_error error;
    const char *remedy;
};

static void *try(void *opaque)
{
    struct attempt *attempt = opaque;

    if (unshare(CLONE_NEWNET) < 0) {
        drafter_error_errno(&attempt->error, errno, "no network namespace can be made");
        attempt->remedy = "run as root; in a container, add CAP_NET_ADMIN and CAP_SYS_ADMIN";
    } else if (tap_create("tap0", &attempt->error) < 0) {
        attempt->remedy = "modprobe tun; in a container, pass /dev/net/tun in";
    } else if (attempt->rules(&attempt->error) < 0) {
        attempt->remedy = "a kernel with nf_tables, nf_nat and nf_conntrack, and the packages that "
                          "the manual page of the plugin names";
    }
    return NULL;
}

int pool_probe(int (*rules)(struct drafter_error *err), struct drafter_probe *ret_probe)
{
    struct attempt attempt = {.rules = rules, .remedy = ""};
    pthread_t thread;
    int ret = pthread_create(&thread, NULL, try, &attempt);

    if (ret != 0)
        return -ret;
    pthread_join(thread, NULL);
    ret_probe->usable = attempt.error.code == 0;
    snprintf(ret_probe->reason, sizeof(ret_probe->reason), "%.255s", attempt.error.message);
    snprintf(ret_probe->remedy, sizeof(ret_probe->remedy), "%s", attempt.remedy);
    return 0;
}
