/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests and replies of one connection.
 *
 * The thread that receives serves what does not wait: writes, and reads of what is here.  Everything
 * else goes to the pool, so that it holds up nothing behind it; but for a write that covers a missing
 * page only partly, whose data would need memory to wait in.  Long transfers go in pieces of
 * SERVER_CHUNK: a client cannot make us hold more.
 */
#include "server.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn *conn_new(struct server *server, int fd)
{
    struct conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->server = server;
    conn->fd = fd;
    conn->holders = 1;
    pthread_mutex_init(&conn->lock, NULL);
    pthread_cond_init(&conn->change, NULL);
    pthread_mutex_init(&conn->send_lock, NULL);
    for (unsigned i = 0; i < CONN_JOBS; i++) {
        conn->jobs[i].conn = conn;
        conn->jobs[i].next = conn->free;
        conn->free = &conn->jobs[i];
    }
    return conn;
}

void conn_put(struct conn *conn)
{
    bool last;

    pthread_mutex_lock(&conn->lock);
    last = --conn->holders == 0;
    pthread_mutex_unlock(&conn->lock);
    if (!last)
        return;
    close(conn->fd);
    pthread_mutex_destroy(&conn->send_lock);
    pthread_cond_destroy(&conn->change);
    pthread_mutex_destroy(&conn->lock);
    free(conn);
}

/* Nothing can be said to this client any more. */
static void break_off(struct conn *conn)
{
    atomic_store(&conn->broken, true);
    shutdown(conn->fd, SHUT_RDWR);
}

int conn_receive(struct conn *conn, void *buffer, size_t length)
{
    while (length > 0) {
        ssize_t got = recv(conn->fd, buffer, length, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ECONNRESET;
        buffer = (char *)buffer + got;
        length -= (size_t)got;
    }
    return 0;
}

/* With send_lock held. */
static int send_all(struct conn *conn, const void *head, size_t head_length, const void *data,
                    size_t length)
{
    struct iovec parts[2] = {{.iov_base = (void *)head, .iov_len = head_length},
                             {.iov_base = (void *)data, .iov_len = length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    while (parts[0].iov_len + parts[1].iov_len > 0) {
        ssize_t sent = sendmsg(conn->fd, &message, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -errno;
        for (unsigned i = 0; i < 2 && sent > 0; i++) {
            size_t part = (size_t)sent < parts[i].iov_len ? (size_t)sent : parts[i].iov_len;

            if (part == 0) /* and perhaps no pointer */
                continue;
            parts[i].iov_base = (char *)parts[i].iov_base + part;
            parts[i].iov_len -= part;
            sent -= (ssize_t)part;
        }
    }
    return 0;
}

int conn_send(struct conn *conn, const void *head, size_t head_length, const void *data,
              size_t length)
{
    int result = -EPIPE;

    pthread_mutex_lock(&conn->send_lock);
    if (!atomic_load(&conn->broken))
        result = send_all(conn, head, head_length, data, length);
    pthread_mutex_unlock(&conn->send_lock);
    if (result < 0)
        break_off(conn); /* half a reply may be out */
    return result;
}

/* The errors that the protocol knows have Linux's numbers. */
static uint32_t wire_error(int result)
{
    switch (-result) {
    case 0:
    case EPERM:
    case EIO:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
    case EOVERFLOW:
    case ENOTSUP:
    case ESHUTDOWN:
        return (uint32_t)-result;
    case EFBIG:
    case EDQUOT:
        return ENOSPC;
    case EROFS:
        return EPERM;
    default:
        return EIO;
    }
}

static void put_simple(unsigned char head[16], const struct nbd_request *request, int result)
{
    nbd_put32(head, NBD_SIMPLE_REPLY_MAGIC);
    nbd_put32(head + 4, wire_error(result));
    nbd_put64(head + 8, request->cookie);
}

static void reply(struct conn *conn, const struct nbd_request *request, int result)
{
    unsigned char head[16];

    put_simple(head, request, result);
    conn_send(conn, head, sizeof(head), NULL, 0);
}

static void put_chunk(unsigned char head[20], const struct nbd_request *request, uint16_t flags,
                      uint16_t type, uint32_t length)
{
    nbd_put32(head, NBD_CHUNK_MAGIC);
    nbd_put16(head + 4, flags);
    nbd_put16(head + 6, type);
    nbd_put64(head + 8, request->cookie);
    nbd_put32(head + 16, length);
}

/* An answer to a read without data. */
static void reply_no_data(struct conn *conn, const struct nbd_request *request, int result)
{
    unsigned char head[26];

    if (!conn->structured) {
        reply(conn, request, result);
        return;
    }
    put_chunk(head, request, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, 6);
    nbd_put32(head + 20, wire_error(result));
    nbd_put16(head + 24, 0);
    conn_send(conn, head, sizeof(head), NULL, 0);
}

static size_t piece(uint64_t length)
{
    return length < SERVER_CHUNK ? (size_t)length : SERVER_CHUNK;
}

static void read_structured(struct conn *conn, const struct nbd_request *request, char *buffer)
{
    uint64_t offset = request->offset, left = request->length;
    unsigned char head[28];

    while (left > 0) {
        size_t part = piece(left);
        int result = export_read(conn->export, conn->view, buffer, part, offset);

        if (result < 0) {
            reply_no_data(conn, request, result);
            return;
        }
        left -= part;
        put_chunk(head, request, left ? 0 : NBD_CHUNK_DONE, NBD_CHUNK_OFFSET_DATA,
                  (uint32_t)part + 8);
        nbd_put64(head + 20, offset);
        if (conn_send(conn, head, sizeof(head), buffer, part) < 0)
            return;
        offset += part;
    }
}

/* What follows the first piece of a simple reply: an error cannot be told any more. */
static int read_rest(struct conn *conn, uint64_t offset, uint64_t left, char *buffer)
{
    int result = 0;

    while (left > 0 && result == 0) {
        size_t part = piece(left);

        result = export_read(conn->export, conn->view, buffer, part, offset);
        if (result == 0)
            result = send_all(conn, NULL, 0, buffer, part);
        offset += part;
        left -= part;
    }
    return result;
}

static void read_simple(struct conn *conn, const struct nbd_request *request, char *buffer)
{
    size_t part = piece(request->length);
    int result = export_read(conn->export, conn->view, buffer, part, request->offset);
    unsigned char head[16];

    put_simple(head, request, result);
    if (result < 0 || part == request->length) {
        conn_send(conn, head, sizeof(head), buffer, result < 0 ? 0 : part);
        return;
    }
    pthread_mutex_lock(&conn->send_lock);
    result = atomic_load(&conn->broken) ? -EPIPE
                                        : send_all(conn, head, sizeof(head), buffer, part);
    if (result == 0)
        result = read_rest(conn, request->offset + part, request->length - part, buffer);
    pthread_mutex_unlock(&conn->send_lock);
    if (result < 0)
        break_off(conn);
}

static void run(struct conn *conn, const struct nbd_request *request, char *buffer)
{
    int result = -EINVAL;

    switch (request->command) {
    case NBD_READ:
        if (conn->structured)
            read_structured(conn, request, buffer);
        else
            read_simple(conn, request, buffer);
        return;
    case NBD_WRITE: /* its data is written */
    case NBD_FLUSH:
        result = export_flush(conn->export);
        break;
    case NBD_TRIM:
        result = export_trim(conn->export, request->length, request->offset);
        break;
    case NBD_WRITE_ZEROES:
        result = export_zero(conn->export, request->length, request->offset);
        break;
    }
    if (result == 0 && (request->flags & NBD_FLAG_FUA) && request->command != NBD_WRITE)
        result = export_flush(conn->export);
    reply(conn, request, result);
}

void conn_run_job(struct job *job, char *buffer)
{
    if (!atomic_load(&job->conn->broken))
        run(job->conn, &job->request, buffer);
}

void conn_release_job(struct job *job)
{
    struct conn *conn = job->conn;

    export_leave(conn->export);
    pthread_mutex_lock(&conn->lock);
    job->next = conn->free;
    conn->free = job;
    pthread_cond_signal(&conn->change);
    pthread_mutex_unlock(&conn->lock);
    conn_put(conn);
}

/* Waits while as many requests of this connection are out as the pool may hold of it. */
static void run_or_submit(struct conn *conn, const struct nbd_request *request)
{
    struct job *job;

    if (!conn->pooled || (request->command == NBD_READ &&
                          export_present(conn->export, request->length, request->offset))) {
        run(conn, request, conn->buffer);
        return;
    }
    pthread_mutex_lock(&conn->lock);
    while (!conn->free)
        pthread_cond_wait(&conn->change, &conn->lock);
    job = conn->free;
    conn->free = job->next;
    conn->holders++;
    pthread_mutex_unlock(&conn->lock);
    export_hold(conn->export);
    job->request = *request;
    pool_submit(&conn->server->pool, job, request->command == NBD_READ ? POOL_READS : POOL_OTHERS);
}

/* Why a request cannot be served, or 0. */
static int check(const struct conn *conn, const struct nbd_request *request)
{
    uint64_t size = conn->export->size;
    bool changes = request->command != NBD_READ && request->command != NBD_FLUSH;

    if (changes && (conn->view || (conn->export->flags & DRAFTER_DEVICE_READONLY)))
        return -EPERM;
    if (request->flags & ~(NBD_FLAG_FUA | NBD_FLAG_NO_HOLE | NBD_FLAG_DF))
        return -EINVAL;
    if (request->command == NBD_FLUSH)
        return 0;
    if (request->length == 0)
        return -EINVAL;
    if (request->offset > size || request->length > size - request->offset)
        return request->command == NBD_WRITE || request->command == NBD_WRITE_ZEROES ? -ENOSPC
                                                                                     : -EINVAL;
    if (request->command == NBD_READ && request->length > SERVER_REQUEST_MAX)
        return -EOVERFLOW;
    /* In one chunk, as it is asked for, is what fits into one. */
    if ((request->flags & NBD_FLAG_DF) && request->length > SERVER_CHUNK)
        return -EOVERFLOW;
    return 0;
}

/* Takes the data of a write from the stream, and writes it unless `result` is an error. */
static int serve_write(struct conn *conn, const struct nbd_request *request, int result)
{
    uint64_t offset = request->offset, left = request->length;

    if (request->length > SERVER_REQUEST_MAX) {
        drafter_log(DRAFTER_LOG_DEBUG, conn->server->id, "a client wants to write %u bytes at once",
                    request->length);
        return -EPROTO;
    }
    while (left > 0) {
        size_t part = piece(left);
        int received = conn_receive(conn, conn->buffer, part);

        if (received < 0)
            return received;
        if (result == 0)
            result = export_write(conn->export, conn->buffer, part, offset);
        offset += part;
        left -= part;
    }
    if (result == 0 && (request->flags & NBD_FLAG_FUA))
        run_or_submit(conn, request);
    else
        reply(conn, request, result);
    return 0;
}

/* A negative errno ends the connection. */
static int serve(struct conn *conn, const struct nbd_request *request)
{
    int result;

    switch (request->command) {
    case NBD_DISCONNECT:
        return -ECONNRESET;
    case NBD_WRITE:
        return serve_write(conn, request, check(conn, request));
    case NBD_READ:
        result = check(conn, request);
        if (result < 0)
            reply_no_data(conn, request, result);
        break;
    case NBD_FLUSH:
    case NBD_TRIM:
    case NBD_WRITE_ZEROES:
        result = check(conn, request);
        if (result < 0)
            reply(conn, request, result);
        break;
    default: /* none of them has data */
        reply(conn, request, result = -EINVAL);
    }
    if (result == 0)
        run_or_submit(conn, request);
    return 0;
}

void conn_serve(struct conn *conn)
{
    unsigned char wire[NBD_REQUEST_SIZE];
    struct nbd_request request;

    while (conn_receive(conn, wire, sizeof(wire)) == 0 && nbd_get32(wire) == NBD_REQUEST_MAGIC) {
        request = (struct nbd_request){.flags = nbd_get16(wire + 4),
                                       .command = nbd_get16(wire + 6),
                                       .cookie = nbd_get64(wire + 8),
                                       .offset = nbd_get64(wire + 16),
                                       .length = nbd_get32(wire + 24)};
        if (serve(conn, &request) < 0)
            break;
    }
    if (!conn->pooled)
        break_off(conn);
}
