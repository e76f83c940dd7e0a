/* SPDX-License-Identifier: BSD-2-Clause */
/* Probes of system calls and of the file system. */
#include "util/probe.h"

#include "util/cleanup.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#ifndef LOCALSTATEDIR
#define LOCALSTATEDIR "/usr/local/var"
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451 /* Linux 6.5 */
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1 /* Linux 5.11 */
#endif

#define SPACE_WANTED (UINT64_C(1) << 30)

void probe_userfaultfd(struct probe_result *result)
{
    struct uffdio_api api = {.api = UFFD_API};
    cleanup_close int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    bool user_only = false;

    if (fd < 0 && errno == EPERM) {
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
        user_only = true;
    }
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
        probe_no(result, errno == EPERM ? "set sysctl vm.unprivileged_userfaultfd=1" : "",
                 "userfaultfd(2): %s", strerror(errno));
    else if (user_only)
        probe_no(result, "run as root or set sysctl vm.unprivileged_userfaultfd=1",
                 "faults of the kernel, which KVM and disk I/O cause, are not for this user");
    else
        probe_yes(result, "features 0x%llx", (unsigned long long)api.features);
}

/* The kernel's structures, which headers do not have yet. */
struct cachestat_range_ {
    uint64_t offset, length;
};

struct cachestat_ {
    uint64_t cache, dirty, writeback, evicted, recently_evicted;
};

void probe_cachestat(struct probe_result *result)
{
    struct cachestat_range_ range = {0, DRAFTER_PAGE_SIZE};
    struct cachestat_ found = {0};
    cleanup_close int fd = memfd_create("drafter-probe", MFD_CLOEXEC);

    if (fd < 0 || pwrite(fd, "", 1, 0) != 1 || syscall(SYS_cachestat, fd, &range, &found, 0) < 0)
        probe_no(result,
                 "use Linux 6.5 or later; dirty pages are found by writing them back instead",
                 "cachestat(2): %s", strerror(errno));
    else if (found.cache != 1)
        probe_no(result, "", "cachestat(2) counts %llu pages, wanted 1",
                 (unsigned long long)found.cache);
    else
        probe_yes(result, "counted a page");
}

void probe_io_uring(struct probe_result *result)
{
    struct io_uring_params parameters = {0};
    cleanup_close int fd = (int)syscall(SYS_io_uring_setup, 2, &parameters);

    if (fd < 0)
        probe_no(result, errno == EPERM ? "set sysctl kernel.io_uring_disabled=0" : "",
                 "io_uring_setup(2): %s", strerror(errno));
    else
        probe_yes(result, "features 0x%x", parameters.features);
}

void probe_space(struct probe_result *result)
{
    char path[] = LOCALSTATEDIR "/lib/drafter";
    struct statvfs status;
    unsigned long long available;
    char *slash;

    while (statvfs(path, &status) < 0) { /* the nearest parent that is there */
        slash = strrchr(path, '/');
        if (!slash || slash == path) {
            probe_no(result, "", "%s: %s", path, strerror(errno));
            return;
        }
        *slash = '\0';
    }
    available = (unsigned long long)status.f_bavail * status.f_frsize;
    if (available < SPACE_WANTED)
        probe_no(result, "make room, or keep devices on another file system",
                 "%llu MiB free on the file system of %s", available >> 20, path);
    else
        probe_yes(result, "%llu GiB free on the file system of %s", available >> 30, path);
}
