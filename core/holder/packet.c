/* SPDX-License-Identifier: BSD-2-Clause */
#include "holder/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int) * HOLDER_FDS_MAX)];
};

int packet_send(int socket, struct holder_message *header, const void *data, const int *fds)
{
    struct iovec parts[2] = {{header, sizeof(*header)},
                             {(void *)(uintptr_t)data, header->length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = header->length ? 2 : 1};
    union control control = {0};

    header->version = HOLDER_VERSION;
    if (header->fd_count > HOLDER_FDS_MAX || header->length > HOLDER_DATA_MAX)
        return -E2BIG;
    if (header->fd_count) {
        size_t size = sizeof(int) * header->fd_count;

        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(size);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(&control.header), fds, size);
    }
    while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR)
            return errno == ECONNRESET ? -EPIPE : -errno;
    }
    return 0;
}

static void take_fds(struct msghdr *message, struct holder_packet *packet, uint32_t *count)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
        size_t here = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < here; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(int));
            if (*count < HOLDER_FDS_MAX)
                packet->fds[(*count)++] = fd;
            else
                close(fd);
        }
    }
}

/* As the sender counted, and as it terminated what are strings. */
static int check(const struct holder_packet *packet, size_t got, uint32_t fd_count, int flags)
{
    const struct holder_message *header = &packet->header;

    if (got < sizeof(*header) || flags & (MSG_TRUNC | MSG_CTRUNC) ||
        header->version != HOLDER_VERSION || header->length != got - sizeof(*header) ||
        header->fd_count != fd_count || header->name[HOLDER_NAME_MAX - 1])
        return -EBADMSG;
    return 0;
}

int packet_receive(int socket, struct holder_packet *packet)
{
    struct iovec parts[2] = {{&packet->header, sizeof(packet->header)},
                             {packet->data, sizeof(packet->data)}};
    union control control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    uint32_t count = 0;
    ssize_t got;
    int result;

    do
        got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return got == 0 || errno == ECONNRESET ? -EPIPE : -errno;
    take_fds(&message, packet, &count);
    result = check(packet, (size_t)got, count, message.msg_flags);
    packet->header.fd_count = count;
    if (result < 0)
        packet_close_fds(packet);
    return result;
}

void packet_close_fds(struct holder_packet *packet)
{
    for (uint32_t i = 0; i < packet->header.fd_count; i++)
        if (packet->fds[i] >= 0)
            close(packet->fds[i]);
    packet->header.fd_count = 0;
}
