/* SPDX-License-Identifier: BSD-2-Clause */
#include "netlink-internal.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BUFFER_SIZE 32768 /* NETLINK_BATCH requests of ours are a third of it */

int netlink_open(struct netlink *netlink, struct drafter_error *err)
{
    int ret;

    memset(netlink, 0, sizeof(*netlink));
    netlink->socket = nl_socket_alloc();
    netlink->buffer = malloc(BUFFER_SIZE);
    if (!netlink->socket || !netlink->buffer) {
        netlink_close(netlink);
        return drafter_error_set(err, ENOMEM, "netlink: no memory");
    }
    ret = nl_connect(netlink->socket, NETLINK_ROUTE);
    if (ret < 0) {
        netlink_close(netlink);
        return drafter_error_set(err, EIO, "netlink: %s", nl_geterror(ret));
    }
    return 0;
}

void netlink_close(struct netlink *netlink)
{
    nl_socket_free(netlink->socket);
    free(netlink->buffer);
    memset(netlink, 0, sizeof(*netlink));
}

void netlink_add(struct netlink *netlink, const char *what, struct nl_msg *message)
{
    struct nlmsghdr *header = message ? nlmsg_hdr(message) : NULL;
    size_t length = header ? NLMSG_ALIGN(header->nlmsg_len) : 0;

    if (!header || netlink->count == NETLINK_BATCH || length > BUFFER_SIZE - netlink->used) {
        netlink->failed = header ? -E2BIG : -ENOMEM;
        nlmsg_free(message);
        return;
    }
    header->nlmsg_seq = (uint32_t)netlink->count + 1;
    header->nlmsg_pid = nl_socket_get_local_port(netlink->socket);
    header->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    memset(netlink->buffer + netlink->used, 0, length);
    memcpy(netlink->buffer + netlink->used, header, header->nlmsg_len);
    snprintf(netlink->what[netlink->count], sizeof(netlink->what[0]), "%s", what);
    netlink->used += length;
    netlink->count++;
    nlmsg_free(message);
}

/* One datagram of answers: how many, and the first failure among them. */
static int read_answers(struct netlink *netlink, size_t *answers, struct drafter_error *err)
{
    union {
        struct nlmsghdr header;
        char bytes[8192];
    } buffer;
    ssize_t length = recv(nl_socket_get_fd(netlink->socket), &buffer, sizeof(buffer), MSG_DONTWAIT);
    int left = (int)length, ret = 0;

    /* The kernel has answered everything before send() returned. */
    if (length < 0)
        return drafter_error_errno(err, errno, "netlink: receive");
    for (struct nlmsghdr *at = &buffer.header; NLMSG_OK(at, (unsigned)left);
         at = NLMSG_NEXT(at, left)) {
        const struct nlmsgerr *answer = NLMSG_DATA(at);

        if (at->nlmsg_type != NLMSG_ERROR || at->nlmsg_len < NLMSG_LENGTH(sizeof(*answer)))
            continue;
        ++*answers;
        if (answer->error < 0 && ret == 0)
            ret = drafter_error_errno(err, -answer->error, "%s",
                                      at->nlmsg_seq - 1 < netlink->count
                                          ? netlink->what[at->nlmsg_seq - 1]
                                          : "netlink");
    }
    return ret;
}

int netlink_flush(struct netlink *netlink, struct drafter_error *err)
{
    size_t answers = 0, count = netlink->count;
    struct drafter_error first = {0}, error;
    int ret = netlink->failed;

    if (ret < 0)
        drafter_error_errno(&first, -ret, "netlink");
    else if (count && nl_sendto(netlink->socket, netlink->buffer, netlink->used) < 0)
        ret = drafter_error_errno(&first, errno, "netlink: send");
    while (ret == 0 && answers < count) {
        size_t before = answers;

        memset(&error, 0, sizeof(error));
        if (read_answers(netlink, &answers, &error) < 0 && first.code == 0)
            first = error;
        if (answers == before)
            break;
    }
    netlink->count = netlink->used = 0;
    netlink->failed = 0;
    if (first.code && err)
        *err = first;
    return -first.code;
}
