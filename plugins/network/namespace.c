/* SPDX-License-Identifier: BSD-2-Clause */
#include "namespace.h"

#include "layout.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define OWN "/proc/thread-self/ns/net"

int namespace_prepare(struct drafter_error *err)
{
    const char *directory = LAYOUT_NETNS_DIRECTORY;
    int fd, ret = 0;

    if (mkdir(directory, 0755) < 0 && errno != EEXIST)
        return drafter_error_errno(err, errno, "%s", directory);
    /* ip(8) locks it for the same purpose. */
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) < 0)
        ret = drafter_error_errno(err, errno, "%s", directory);
    else if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0 &&
             (errno != EINVAL || mount(directory, directory, "none", MS_BIND | MS_REC, NULL) < 0 ||
              mount("", directory, "none", MS_SHARED | MS_REC, NULL) < 0))
        ret = drafter_error_errno(err, errno, "%s: share the mount", directory);
    if (fd >= 0)
        close(fd);
    return ret;
}

int namespace_create(const char *path, struct drafter_error *err)
{
    int fd;

    if (unshare(CLONE_NEWNET) < 0)
        return drafter_error_errno(err, errno, "%s: make a network namespace", path);
    fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (fd < 0)
        return drafter_error_errno(err, errno, "%s", path);
    close(fd);
    if (mount(OWN, path, "none", MS_BIND, NULL) < 0)
        return drafter_error_errno(err, errno, "%s: mount", path);
    return 0;
}

int namespace_remove(const char *path, struct drafter_error *err)
{
    /* Whoever bound the directory onto itself meanwhile has left a second mount below. */
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
    if (errno != EINVAL && errno != ENOENT)
        return drafter_error_errno(err, errno, "%s: unmount", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return drafter_error_errno(err, errno, "%s: remove", path);
    return 0;
}

bool namespace_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool namespace_valid(const char *path)
{
    struct statfs status;

    return statfs(path, &status) == 0 && status.f_type == NSFS_MAGIC;
}

int namespace_open_own(void)
{
    return open(OWN, O_RDONLY | O_CLOEXEC);
}

int namespace_enter(int fd)
{
    return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

int namespace_identity(int fd, uint64_t ret_identity[2])
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return -errno;
    ret_identity[0] = status.st_dev;
    ret_identity[1] = status.st_ino;
    return 0;
}

int tap_create(const char *name, struct drafter_error *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), ret = 0;

    if (fd < 0)
        return drafter_error_errno(err, errno, "/dev/net/tun");
    memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
        ret = drafter_error_errno(err, errno, "tap %s", name);
    close(fd);
    return ret;
}
