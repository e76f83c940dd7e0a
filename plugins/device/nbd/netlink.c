/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the kernel's NBD client is told: generic netlink, family "nbd".  It is there only in the first
 * network namespace, so that a drafter in another one asks from there.
 */
#include "server.h"

#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLAG_DISCONNECT_ON_CLOSE 2u /* NBD_CFLAG_DISCONNECT_ON_CLOSE of linux/nbd.h */
#define ANSWER_TIMEOUT_S 20

struct channel {
    struct nl_sock *socket;
    int family;
};

struct answer {
    bool done;
    int error; /* negative errno */
    int index;
};

static int channel_open(struct channel *channel)
{
    struct timeval patience = {.tv_sec = ANSWER_TIMEOUT_S};

    channel->socket = nl_socket_alloc();
    if (!channel->socket || genl_connect(channel->socket) < 0)
        return -ENOMEM;
    setsockopt(nl_socket_get_fd(channel->socket), SOL_SOCKET, SO_RCVTIMEO, &patience,
               sizeof(patience));
    channel->family = genl_ctrl_resolve(channel->socket, NBD_GENL_FAMILY_NAME);
    return channel->family < 0 ? -ENOENT : 0;
}

static void channel_close(struct channel *channel)
{
    nl_socket_free(channel->socket);
    channel->socket = NULL;
}

/* In a thread of its own, whose namespace is nobody's. */
static void *open_elsewhere(void *opaque)
{
    int fd = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);
    struct channel *channel = opaque;

    channel->family = -ENOENT;
    if (fd >= 0 && setns(fd, CLONE_NEWNET) == 0 && channel_open(channel) < 0)
        channel->family = -ENOENT;
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int open_any(struct channel *channel, struct drafter_error *err)
{
    pthread_t thread;

    *channel = (struct channel){0};
    if (channel_open(channel) == 0)
        return 0;
    channel_close(channel);
    if (pool_thread(&thread, open_elsewhere, channel) == 0)
        pthread_join(thread, NULL);
    if (channel->socket && channel->family >= 0)
        return 0;
    channel_close(channel);
    return drafter_error_set(err, ENOENT,
                             "the kernel's NBD client is not there: modprobe nbd (or attach = none, or "
                             "another device plugin)");
}

static int on_valid(struct nl_msg *message, void *opaque)
{
    struct nlattr *attributes[NBD_ATTR_MAX + 1];
    struct answer *answer = opaque;

    if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, NULL) == 0 &&
        attributes[NBD_ATTR_INDEX])
        answer->index = (int)nla_get_u32(attributes[NBD_ATTR_INDEX]);
    return NL_OK;
}

static int on_ack(struct nl_msg *message, void *opaque)
{
    struct answer *answer = opaque;

    (void)message;
    answer->done = true;
    return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *opaque)
{
    struct answer *answer = opaque;

    (void)from;
    answer->done = true;
    answer->error = error->error;
    return NL_STOP;
}

/* Sends the message, which is freed, and waits for what the kernel says. */
static int exchange(struct channel *channel, struct nl_msg *message, struct answer *answer)
{
    struct nl_cb *callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    int result = callbacks ? nl_send_auto(channel->socket, message) : -NLE_NOMEM;

    nlmsg_free(message);
    *answer = (struct answer){.index = -1};
    if (result >= 0) {
        nl_cb_set(callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_valid, answer);
        nl_cb_set(callbacks, NL_CB_ACK, NL_CB_CUSTOM, on_ack, answer);
        nl_cb_err(callbacks, NL_CB_CUSTOM, on_error, answer);
        while (!answer->done && result >= 0)
            result = nl_recvmsgs(channel->socket, callbacks);
    }
    nl_cb_put(callbacks);
    if (answer->done)
        return answer->error;
    return result == -NLE_AGAIN ? -ETIMEDOUT : -EIO;
}

static struct nl_msg *begin(const struct channel *channel, uint8_t command)
{
    struct nl_msg *message = nlmsg_alloc_size(4096);

    if (message && !genlmsg_put(message, NL_AUTO_PORT, NL_AUTO_SEQ, channel->family, 0, NLM_F_ACK,
                                command, NBD_GENL_VERSION)) {
        nlmsg_free(message);
        return NULL;
    }
    return message;
}

static int put_sockets(struct nl_msg *message, const int *fds, unsigned count)
{
    struct nlattr *list = nla_nest_start(message, NBD_ATTR_SOCKETS);

    for (unsigned i = 0; list && i < count; i++) {
        struct nlattr *item = nla_nest_start(message, NBD_SOCK_ITEM);

        if (!item || nla_put_u32(message, NBD_SOCK_FD, (uint32_t)fds[i]) < 0)
            return -ENOMEM;
        nla_nest_end(message, item);
    }
    if (!list)
        return -ENOMEM;
    nla_nest_end(message, list);
    return 0;
}

int netlink_probe(struct drafter_error *err)
{
    struct channel channel;
    int result = open_any(&channel, err);

    channel_close(&channel);
    return result;
}

int netlink_connect(const struct netlink_device *device, const int *fds, unsigned count, int *ret_index,
                    struct drafter_error *err)
{
    struct channel channel;
    struct nl_msg *message;
    struct answer answer;
    int result = open_any(&channel, err);

    if (result < 0)
        return result;
    message = begin(&channel, NBD_CMD_CONNECT);
    /* Without an index the kernel takes a free device, or makes one. */
    if (!message || nla_put_u64(message, NBD_ATTR_SIZE_BYTES, device->size) < 0 ||
        nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, 512) < 0 ||
        nla_put_u64(message, NBD_ATTR_TIMEOUT, device->timeout_s) < 0 ||
        nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT, device->reconnect_s) < 0 ||
        nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, device->flags) < 0 ||
        nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, device->identifier) < 0 ||
        put_sockets(message, fds, count) < 0) {
        nlmsg_free(message);
        channel_close(&channel);
        return drafter_error_set(err, ENOMEM, "%s: no memory", device->identifier);
    }
    result = exchange(&channel, message, &answer);
    channel_close(&channel);
    if (result == 0 && answer.index < 0)
        result = -EPROTO;
    if (result < 0)
        return drafter_error_errno(err, -result, "the kernel refuses an NBD device%s",
                                   result == -EPERM ? " (needs root: CAP_SYS_ADMIN)" : "");
    *ret_index = answer.index;
    return 0;
}

int netlink_reconnect(int index, const int *fds, unsigned count, const char *identifier,
                      enum netlink_release release, struct drafter_error *err)
{
    struct channel channel;
    struct nl_msg *message;
    struct answer answer;
    int result = open_any(&channel, err);

    if (result < 0)
        return result;
    message = begin(&channel, NBD_CMD_RECONFIGURE);
    if (!message || nla_put_u32(message, NBD_ATTR_INDEX, (uint32_t)index) < 0 ||
        nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, identifier) < 0 ||
        (release != RELEASE_AS_IT_IS &&
         nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS,
                     release == RELEASE_ON_CLOSE ? FLAG_DISCONNECT_ON_CLOSE : 0) < 0) ||
        (count && put_sockets(message, fds, count) < 0)) {
        nlmsg_free(message);
        channel_close(&channel);
        return drafter_error_set(err, ENOMEM, "%s: no memory", identifier);
    }
    result = exchange(&channel, message, &answer);
    channel_close(&channel);
    return result < 0 ? drafter_error_errno(err, -result, "/dev/nbd%d: the kernel refuses", index) : 0;
}

int netlink_disconnect(int index, struct drafter_error *err)
{
    struct channel channel;
    struct nl_msg *message;
    struct answer answer;
    int result = open_any(&channel, err);

    if (result < 0)
        return result;
    message = begin(&channel, NBD_CMD_DISCONNECT);
    if (!message || nla_put_u32(message, NBD_ATTR_INDEX, (uint32_t)index) < 0)
        result = -ENOMEM;
    if (result < 0)
        nlmsg_free(message);
    else
        result = exchange(&channel, message, &answer);
    channel_close(&channel);
    return result < 0 ? drafter_error_errno(err, -result, "/dev/nbd%d: cannot disconnect", index) : 0;
}
