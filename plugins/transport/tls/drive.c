/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a handshake over the transport below, within its time. */
#include "connection.h"

#include <stdio.h>
#include <sys/mman.h>

#define MILLISECOND UINT64_C(1000000)

/* How long, and for how much, a refused peer is listened to, so that no reset overtakes the alert. */
#define LINGER_MS 100
#define LINGER_BYTES 65536

/* Gives the next wait what is left of the time. */
static int set_wait(struct tls_connection *connection, uint64_t deadline)
{
    uint64_t now = drafter_now_ns();

    if (now >= deadline)
        return -ETIMEDOUT;
    return connection->instance->next->set_timeout(connection->below,
                                                   (unsigned)((deadline - now) / MILLISECOND + 1));
}

static int send_out(struct tls_connection *connection, struct tls_handshake *handshake,
                    uint64_t deadline)
{
    size_t done = 0;

    while (done < handshake->out_length) {
        struct iovec piece = {.iov_base = handshake->out + done,
                              .iov_len = handshake->out_length - done};
        ssize_t rc = set_wait(connection, deadline);

        if (rc == 0)
            rc = connection->instance->next->writev(connection->below, &piece, 1);
        if (rc <= 0)
            return rc ? (int)rc : -EIO;
        done += (size_t)rc;
    }
    tls_handshake_drop_out(handshake);
    return 0;
}

static int read_bytes(struct tls_connection *connection, uint8_t *bytes, size_t length,
                      uint64_t deadline)
{
    while (length > 0) {
        struct iovec piece = {.iov_base = bytes, .iov_len = length};
        ssize_t rc = set_wait(connection, deadline);

        if (rc == 0)
            rc = connection->instance->next->readv(connection->below, &piece, 1);
        else if (rc > 0)
            rc = -EIO;
        if (rc <= 0)
            return rc ? (int)rc : -ECONNRESET;
        bytes += rc;
        length -= (size_t)rc;
    }
    return 0;
}

/*
 * Cryptography goes deep into the stack; who is waited for then need not keep that.  Nothing is below this
 * function but what its one call needs.
 */
static void trim_stack(void)
{
    const uintptr_t page = 4096, slack = 512;
    pthread_attr_t attributes;
    size_t size;
    void *low;
    uintptr_t begin, end = ((uintptr_t)__builtin_frame_address(0) - slack) & -page;

    if (pthread_getattr_np(pthread_self(), &attributes))
        return;
    if (!pthread_attr_getstack(&attributes, &low, &size)) {
        begin = ((uintptr_t)low + page - 1) & -page;
        if (begin < end)
            madvise((void *)begin, end - begin, MADV_DONTNEED); /* where it fails, nothing is lost */
    }
    pthread_attr_destroy(&attributes);
}

/* Reads past so many bytes; nobody looks at them. */
static int skip_bytes(struct tls_connection *connection, struct tls_handshake *handshake, size_t length,
                      uint64_t deadline)
{
    int rc = 0;

    while (!rc && length > 0) {
        size_t part = length < sizeof(handshake->few) ? length : sizeof(handshake->few);

        rc = read_bytes(connection, handshake->few, part, deadline);
        length -= part;
    }
    return rc;
}

/* One record: 0, or a negative errno; a failure of the transport is not yet one of the handshake. */
static int take_record(struct tls_connection *connection, struct tls_handshake *handshake,
                       uint64_t deadline)
{
    uint8_t *room = tls_handshake_room(handshake);
    ssize_t length;
    int rc = read_bytes(connection, room, TLS_RECORD_HEADER, deadline);

    if (rc)
        return rc;
    length = tls_handshake_expect(handshake);
    if (length < 0)
        return (int)length;
    if (handshake->unwanted)
        return skip_bytes(connection, handshake, (size_t)length, deadline);
    room = tls_handshake_room(handshake); /* it may be elsewhere now */
    rc = read_bytes(connection, room + TLS_RECORD_HEADER, (size_t)length, deadline);
    if (!rc && !connection->secrets) { /* locked pages are dear: not for those that say half a record */
        rc = tls_connection_reserve(connection);
        handshake->secrets = connection->secrets;
    }
    return rc ? rc : tls_handshake_record(handshake, TLS_RECORD_HEADER + (size_t)length);
}

/*
 * The alert goes out, and what the peer is still sending is read, but nobody looks at it.  Its buffer is not
 * to be in the frame of who waits.
 */
static __attribute__((noinline)) void part_from(struct tls_connection *connection, struct tls_handshake *handshake)
{
    uint64_t until = drafter_now_ns() + LINGER_MS * MILLISECOND;
    uint8_t bytes[1024];
    size_t taken = 0;

    if (send_out(connection, handshake, until))
        return;
    connection->closed = true; /* no second alert */
    while (taken < LINGER_BYTES && !set_wait(connection, until)) {
        struct iovec piece = {.iov_base = bytes, .iov_len = sizeof(bytes)};
        ssize_t rc = connection->instance->next->readv(connection->below, &piece, 1);

        if (rc <= 0)
            break;
        taken += (size_t)rc;
    }
}

int tls_drive(struct tls_connection *connection, struct tls_handshake *handshake, uint64_t deadline)
{
    int rc = 0;

    while (!rc) {
        rc = send_out(connection, handshake, deadline);
        if (!rc && handshake->state == TLS_DONE)
            break;
        if (!rc && handshake->server && connection->secrets)
            trim_stack();
        if (!rc)
            rc = take_record(connection, handshake, deadline);
    }
    if (rc == -ETIMEDOUT && handshake->state != TLS_FAILED)
        tls_handshake_fail(handshake, TLS_ALERT_USER_CANCELED, "it did not end the handshake in time");
    if (rc && handshake->state != TLS_FAILED) {
        connection->closed = true; /* nobody would hear an alert */
        snprintf(handshake->reason, sizeof(handshake->reason), "%s",
                 rc == -ECONNRESET || rc == -EPIPE ? "it closed the connection during the handshake"
                 : rc == -ECANCELED                ? "it had to make room for others"
                                                   : strerror(-rc));
    } else if (rc && !handshake->alerted) {
        part_from(connection, handshake);
    }
    connection->instance->next->set_timeout(connection->below, 0);
    return rc;
}
