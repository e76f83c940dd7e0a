/* SPDX-License-Identifier: BSD-2-Clause */
/* Probes of what shows devices to a VM, runs it and connects it. */
#include "util/probe.h"

#include "util/cleanup.h"

#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define KVM_API 12

/* Opens a device node or says why not. */
static int open_node(const char *path, const char *remedy, struct probe_result *result)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 && (errno == EACCES || errno == EPERM))
        probe_no(result, "run as root or as a member of the group that owns it",
                 "no permission for %s", path);
    else if (fd < 0)
        probe_no(result, remedy, "%s: %s", path, strerror(errno));
    return fd;
}

void probe_kvm(struct probe_result *result)
{
    cleanup_close int kvm = open_node("/dev/kvm",
                                      "enable virtualisation in the firmware, or nested "
                                      "virtualisation in the host, and load kvm",
                                      result);
    cleanup_close int vm = -1;
    cleanup_close int cpu = -1;
    int version;

    if (kvm < 0)
        return;
    version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API) {
        probe_no(result, "use a kernel with the stable KVM interface",
                 "/dev/kvm has interface %d, wanted %d", version, KVM_API);
        return;
    }
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm >= 0)
        cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (cpu < 0)
        probe_no(result, "see the kernel log", "KVM cannot create a %s: %s",
                 vm < 0 ? "VM" : "virtual CPU", strerror(errno));
    else
        probe_yes(result, "created a VM with one CPU; whether it runs a stock kernel at speed, the "
                          "VMM plugin finds out");
}

void probe_vhost_vsock(struct probe_result *result)
{
    cleanup_close int fd = open_node(
        "/dev/vhost-vsock", "load vhost_vsock; QEMU guests can use virtio-serial instead", result);

    if (fd >= 0)
        probe_yes(result, "opened /dev/vhost-vsock");
}

/* Mounts a FUSE file system that nobody serves, in a mount namespace that ends with the process. */
static int try_fuse(void)
{
    char options[] = "fd=000,rootmode=40000,user_id=0,group_id=0";
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (fd > 999)
        return -EMFILE;
    for (int i = 0, value = fd; i < 3; i++, value /= 10)
        options[5 - i] = (char)('0' + value % 10);
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("drafter-probe", "/tmp", "fuse.probe", MS_NOSUID | MS_NODEV, options) < 0)
        return -errno;
    return 0;
}

/* Without privileges libfuse mounts through a set-user-id program. */
static bool have_fusermount(void)
{
    static const char *const paths[] = {"/usr/bin/fusermount3", "/bin/fusermount3",
                                        "/usr/local/bin/fusermount3"};
    struct stat status;

    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        if (stat(paths[i], &status) == 0 && status.st_uid == 0 && status.st_mode & S_ISUID)
            return true;
    return false;
}

void probe_fuse(struct probe_result *result)
{
    cleanup_close int fd = open_node("/dev/fuse", "load fuse", result);
    int ret;

    if (fd < 0)
        return;
    ret = probe_in_child(try_fuse);
    if (ret == 0)
        probe_yes(result, "mounted a file system");
    else if (ret != -EPERM)
        probe_no(result, "see the kernel log", "mounting: %s", strerror(-ret));
    else if (have_fusermount())
        probe_yes(result, "/dev/fuse opens; mounting goes through fusermount3");
    else
        probe_no(result, "run as root or install fuse3", "no permission to mount, no fusermount3");
}

/* Takes one answer of a dump apart: is there a family called nbd, is it the end? */
static int read_families(const char *buffer, size_t length, bool *ret_found)
{
    const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)buffer;

    for (; NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
        const char *payload = (const char *)NLMSG_DATA(message) + GENL_HDRLEN;
        const char *end = (const char *)message + message->nlmsg_len;

        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
            return 1;
        while (end - payload >= (ptrdiff_t)NLA_HDRLEN) {
            const struct nlattr *attribute = (const struct nlattr *)(const void *)payload;

            if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > end - payload)
                break;
            if (attribute->nla_type == CTRL_ATTR_FAMILY_NAME &&
                attribute->nla_len == NLA_HDRLEN + sizeof("nbd") &&
                memcmp(payload + NLA_HDRLEN, "nbd", sizeof("nbd")) == 0)
                *ret_found = true;
            payload += NLA_ALIGN(attribute->nla_len);
        }
    }
    return 0;
}

/* Asks for all families, because asking for one by name makes the kernel load its module. */
static int find_nbd_family(bool *ret_found)
{
    struct {
        struct nlmsghdr header;
        struct genlmsghdr genl;
    } request = {
        .header = {.nlmsg_len = sizeof(request),
                   .nlmsg_type = GENL_ID_CTRL,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .genl = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
    };
    struct timeval timeout = {.tv_sec = 1};
    cleanup_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
    char buffer[32768] __attribute__((aligned(8)));

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        send(fd, &request, sizeof(request), 0) < 0)
        return -errno;
    *ret_found = false;
    for (;;) {
        ssize_t length = recv(fd, buffer, sizeof(buffer), 0);

        if (length < 0)
            return -errno;
        if (length == 0 || read_families(buffer, (size_t)length, ret_found))
            return 0;
    }
}

void probe_nbd(struct probe_result *result)
{
    bool found = false;
    int ret = find_nbd_family(&found);

    if (ret < 0)
        probe_no(result, "", "generic netlink: %s", strerror(-ret));
    else if (found)
        probe_yes(result, "the kernel has the nbd netlink family");
    else
        probe_no(result, "load nbd, or show devices with fuse",
                 "the kernel has no nbd netlink family");
}

void probe_loop(struct probe_result *result)
{
    cleanup_close int fd = open_node("/dev/loop-control", "load loop", result);

    if (fd >= 0)
        probe_yes(result, "opened /dev/loop-control");
}

static int try_netns(void)
{
    return unshare(CLONE_NEWNET) < 0 ? -errno : 0;
}

/* A tap that lives as long as its descriptor, in a namespace that ends with the process. */
static int try_tap(void)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int ret = try_netns();
    int fd;

    if (ret < 0)
        return ret;
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        return -errno;
    return 0;
}

void probe_tun(struct probe_result *result)
{
    cleanup_close int fd = open_node("/dev/net/tun", "load tun", result);
    int ret;

    if (fd < 0)
        return;
    ret = probe_in_child(try_tap);
    if (ret == 0)
        probe_yes(result, "created a tap in a namespace of its own");
    else
        probe_no(result, ret == -EPERM ? "run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN" : "",
                 "creating a tap: %s", strerror(-ret));
}

void probe_netns(struct probe_result *result)
{
    int ret = probe_in_child(try_netns);

    if (ret == 0)
        probe_yes(result, "created a network namespace");
    else
        probe_no(result, ret == -EPERM ? "run as root or with CAP_SYS_ADMIN" : "",
                 "creating a network namespace: %s", strerror(-ret));
}
