/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fixed newstyle negotiation, the server's side.  The kernel's connections have none: it is told the
 * size and the flags.  Whatever a client sends, it gets a bounded number of options of a bounded length,
 * and all that has to happen within a bounded time.
 */
#include "server.h"

#include <poll.h>
#include <sys/socket.h>

#define OPTIONS_MAX 64
#define OPTION_LENGTH_MAX ((size_t)8 << 10) /* a name of 4096 bytes, as the protocol allows, and more */
#define NEGOTIATION_MS 10000

struct option {
    uint32_t code, length;
    unsigned char data[OPTION_LENGTH_MAX];
};

/* As conn_receive, but not beyond the deadline, however slowly the bytes drip. */
static int receive(struct conn *conn, void *buffer, size_t length, uint64_t deadline)
{
    while (length > 0) {
        uint64_t now = drafter_now_ns();
        struct pollfd ready = {.fd = conn->fd, .events = POLLIN};
        ssize_t got;

        if (now >= deadline)
            return -ETIMEDOUT;
        if (poll(&ready, 1, (int)((deadline - now) / 1000000) + 1) < 0 && errno != EINTR)
            return -errno;
        got = recv(conn->fd, buffer, length, MSG_DONTWAIT);
        if (got == 0)
            return -ECONNRESET;
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        buffer = (char *)buffer + (got > 0 ? got : 0);
        length -= got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int answer(struct conn *conn, const struct option *option, uint32_t type, const void *data,
                  size_t length)
{
    unsigned char head[20];

    nbd_put64(head, NBD_OPTION_REPLY_MAGIC);
    nbd_put32(head + 8, option->code);
    nbd_put32(head + 12, type);
    nbd_put32(head + 16, (uint32_t)length);
    return conn_send(conn, head, sizeof(head), data, length);
}

static int greet(struct conn *conn, uint64_t deadline, bool *ret_no_zeroes)
{
    unsigned char hello[18], flags[4];
    uint32_t chosen;
    int result;

    nbd_put64(hello, NBD_MAGIC);
    nbd_put64(hello + 8, NBD_OPTION_MAGIC);
    nbd_put16(hello + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    result = conn_send(conn, hello, sizeof(hello), NULL, 0);
    if (result == 0)
        result = receive(conn, flags, sizeof(flags), deadline);
    if (result < 0)
        return result;
    chosen = nbd_get32(flags);
    if (chosen & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
        return -EPROTO;
    *ret_no_zeroes = chosen & NBD_FLAG_NO_ZEROES;
    return 0;
}

/* -EMSGSIZE: it was too long, and is gone from the stream. */
static int receive_option(struct conn *conn, struct option *option, uint64_t deadline)
{
    unsigned char head[16];
    int result = receive(conn, head, sizeof(head), deadline);

    if (result < 0)
        return result;
    option->code = nbd_get32(head + 8);
    option->length = nbd_get32(head + 12);
    if (nbd_get64(head) != NBD_OPTION_MAGIC || option->length > 8 * OPTION_LENGTH_MAX)
        return -EPROTO;
    if (option->length <= OPTION_LENGTH_MAX)
        return receive(conn, option->data, option->length, deadline);
    for (uint32_t left = option->length; left > 0 && result == 0;) {
        uint32_t part = left < OPTION_LENGTH_MAX ? left : (uint32_t)OPTION_LENGTH_MAX;

        result = receive(conn, option->data, part, deadline);
        left -= part;
    }
    return result < 0 ? result : -EMSGSIZE;
}

static int choose_by_name(struct conn *conn, const struct option *option, bool no_zeroes)
{
    unsigned char head[10], padding[124] = {0};
    struct export *export =
        export_use(conn->server, (const char *)option->data, option->length, &conn->export);

    if (!export)
        return -ENOENT; /* there is no way to say so */
    nbd_put64(head, export->size);
    nbd_put16(head + 8, export_transmission_flags(export, conn->view));
    return conn_send(conn, head, sizeof(head), padding, no_zeroes ? 0 : sizeof(padding));
}

static int list(struct conn *conn, const struct option *option)
{
    char names[64][DRAFTER_NAME_MAX + 1];
    unsigned count = 0;
    int result = 0;

    if (option->length != 0)
        return answer(conn, option, NBD_REP_ERR_INVALID, NULL, 0);
    pthread_mutex_lock(&conn->server->lock);
    for (struct export *export = conn->server->exports; export && count < 64; export = export->next)
        memcpy(names[count++], export->name, sizeof(names[0]));
    pthread_mutex_unlock(&conn->server->lock);
    for (unsigned i = 0; i < count && result == 0; i++) {
        unsigned char entry[4 + DRAFTER_NAME_MAX];
        size_t length = strlen(names[i]);

        nbd_put32(entry, (uint32_t)length);
        memcpy(entry + 4, names[i], length);
        result = answer(conn, option, NBD_REP_SERVER, entry, 4 + length);
    }
    return result < 0 ? result : answer(conn, option, NBD_REP_ACK, NULL, 0);
}

static int tell_export(struct conn *conn, const struct option *option, const struct export *export)
{
    unsigned char info[12];

    nbd_put16(info, NBD_INFO_EXPORT);
    nbd_put64(info + 2, export->size);
    nbd_put16(info + 10, export_transmission_flags(export, conn->view) |
                             (conn->structured ? NBD_TX_SEND_DF : 0));
    return answer(conn, option, NBD_REP_INFO, info, sizeof(info));
}

static int tell_wanted(struct conn *conn, const struct option *option, const struct export *export,
                       uint16_t wanted)
{
    unsigned char info[2 + DRAFTER_NAME_MAX + 14];
    size_t length;

    nbd_put16(info, wanted);
    if (wanted == NBD_INFO_NAME) {
        length = strlen(export->name);
        memcpy(info + 2, export->name, length);
        return answer(conn, option, NBD_REP_INFO, info, 2 + length);
    }
    if (wanted != NBD_INFO_BLOCK_SIZE)
        return 0;
    nbd_put32(info + 2, 1);
    nbd_put32(info + 6, (uint32_t)DRAFTER_PAGE_SIZE);
    nbd_put32(info + 10, SERVER_REQUEST_MAX);
    return answer(conn, option, NBD_REP_INFO, info, 14);
}

/* INFO and GO; 1: the transmission begins. */
static int inform(struct conn *conn, const struct option *option)
{
    struct export *export, *unused;
    uint32_t name_length;
    uint16_t count;
    int result;

    name_length = option->length < 6 ? UINT32_MAX : nbd_get32(option->data);
    if (option->length < 6 || name_length > option->length - 6)
        return answer(conn, option, NBD_REP_ERR_INVALID, NULL, 0);
    count = nbd_get16(option->data + 4 + name_length);
    if (option->length != 6 + name_length + 2u * count)
        return answer(conn, option, NBD_REP_ERR_INVALID, NULL, 0);
    export = export_use(conn->server, (const char *)option->data + 4, name_length,
                        option->code == NBD_OPT_GO ? &conn->export : &unused);
    if (!export)
        return answer(conn, option, NBD_REP_ERR_UNKNOWN, NULL, 0);
    result = tell_export(conn, option, export);
    for (uint16_t i = 0; i < count && result == 0; i++)
        result = tell_wanted(conn, option, export, nbd_get16(option->data + 6 + name_length + 2 * i));
    if (result == 0)
        result = answer(conn, option, NBD_REP_ACK, NULL, 0);
    if (option->code == NBD_OPT_INFO)
        export_leave(export);
    return result < 0 || option->code == NBD_OPT_INFO ? result : 1;
}

static int agree_structured(struct conn *conn, const struct option *option)
{
    if (option->length != 0)
        return answer(conn, option, NBD_REP_ERR_INVALID, NULL, 0);
    conn->structured = true;
    return answer(conn, option, NBD_REP_ACK, NULL, 0);
}

/* 1: the transmission begins. */
static int handle(struct conn *conn, const struct option *option, bool no_zeroes)
{
    int result;

    switch (option->code) {
    case NBD_OPT_EXPORT_NAME:
        result = choose_by_name(conn, option, no_zeroes);
        return result < 0 ? result : 1;
    case NBD_OPT_ABORT:
        answer(conn, option, NBD_REP_ACK, NULL, 0);
        return -ECONNRESET;
    case NBD_OPT_LIST:
        return list(conn, option);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return inform(conn, option);
    case NBD_OPT_STRUCTURED_REPLY:
        return agree_structured(conn, option);
    default:
        return answer(conn, option, NBD_REP_ERR_UNSUP, NULL, 0);
    }
}

int negotiate(struct conn *conn)
{
    uint64_t deadline = drafter_now_ns() + NEGOTIATION_MS * UINT64_C(1000000);
    struct option option;
    bool no_zeroes = false;
    int result = greet(conn, deadline, &no_zeroes);

    for (unsigned i = 0; i < OPTIONS_MAX && result == 0; i++) {
        result = receive_option(conn, &option, deadline);
        if (result == -EMSGSIZE)
            result = answer(conn, &option, NBD_REP_ERR_TOO_BIG, NULL, 0);
        else if (result == 0)
            result = handle(conn, &option, no_zeroes);
    }
    return result == 1 ? 0 : result == 0 ? -EPROTO : result;
}
