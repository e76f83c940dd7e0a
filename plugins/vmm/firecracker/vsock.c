/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest dials: Firecracker connects to the socket "vsock.sock_PORT" beside its own.  The sockets
 * exist only while the guest runs, because no connection may be open when a snapshot is taken.
 */
#include "firecracker.h"
#include "util/cleanup.h"
#include "vmm/common/socket.h"
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 4 /* connections that the guest may have waiting */

static const char *const channels[FIRECRACKER_CHANNELS] = {"agent", "liveness"};

static void socket_name(const struct firecracker *vmm, size_t channel, char *name, size_t size)
{
    snprintf(name, size, VSOCK_SOCKET "_%" PRIu64,
             channel ? vmm->config->liveness_port : vmm->config->agent_port);
}

static int listen_for(struct firecracker *vmm, size_t channel, struct drafter_error *err)
{
    char name[64];
    int result;

    socket_name(vmm, channel, name, sizeof(name));
    result = socket_listen(vmm->jail.root, name, BACKLOG, &vmm->listeners[channel], err);
    if (result < 0)
        return result;
    fcntl(vmm->listeners[channel], F_SETFL, O_NONBLOCK);
    return jail_give(&vmm->jail, name, err);
}

int vsock_open(struct firecracker *vmm, struct drafter_error *err)
{
    int result = 0;

    for (size_t i = 0; i < FIRECRACKER_CHANNELS && vmm->config->vsock && result == 0; i++)
        if (vmm->listeners[i] < 0)
            result = listen_for(vmm, i, err);
    return result;
}

void vsock_close(struct firecracker *vmm)
{
    for (size_t i = 0; i < FIRECRACKER_CHANNELS; i++) {
        cleanup_free char *path = NULL;
        char name[64];

        if (vmm->listeners[i] < 0)
            continue;
        close(vmm->listeners[i]); /* also what waits in it */
        vmm->listeners[i] = -1;
        socket_name(vmm, i, name, sizeof(name));
        path = vmm->jail.root ? jail_path(&vmm->jail, name) : NULL;
        if (path)
            unlink(path);
    }
}

/* The newest of those that wait: an older one may be of an agent that has ended. */
static int accept_newest(int listener)
{
    int newest = -1, fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (newest >= 0)
            close(newest);
        newest = fd;
    }
    return newest;
}

/* The guest says by its coming alone that it is alive, and may have left already. */
static int alive(int *ret_fd, struct drafter_error *err)
{
    cleanup_close int inner = -1;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return drafter_error_errno(err, errno, "cannot make a pipe");
    inner = ends[1];
    *ret_fd = ends[0];
    return write(inner, "alive\n", 6) == 6 ? 0 : drafter_error_errno(err, errno, "pipe");
}

int firecracker_channel(void *instance, const char *name, int *ret_fd, struct drafter_error *err)
{
    struct firecracker *vmm = instance;
    size_t channel = 0;
    int fd;

    while (channel < FIRECRACKER_CHANNELS && strcmp(name, channels[channel]) != 0)
        channel++;
    if (channel == FIRECRACKER_CHANNELS || !vmm->config->vsock)
        return drafter_error_set(err, ENOTSUP, "the guest has no channel \"%s\"", name);
    if (vmm->listeners[channel] < 0)
        return drafter_error_set(err, EINVAL, "the guest does not run");
    fd = accept_newest(vmm->listeners[channel]);
    if (fd < 0)
        return drafter_error_set(err, EAGAIN, "the guest's %s has not connected to vsock port %" PRIu64,
                                 name,
                                 channel ? vmm->config->liveness_port : vmm->config->agent_port);
    if (channel == 0) {
        *ret_fd = fd;
        return 0;
    }
    close(fd);
    return alive(ret_fd, err);
}
