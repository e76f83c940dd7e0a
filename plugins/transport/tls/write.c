/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From buffers to records.  A call seals up to TLS_BATCH full records straight from the caller's buffers and
 * hands them down together.
 *
 * When the transport below does not take them in time, those that it has not begun are taken back: nobody
 * has seen them, so their numbers, and with them their nonces, are free again.  One that it has begun does
 * not count as written, but its rest goes first the next time, and the bytes in it, which the caller must
 * come with then, are compared and passed over.  If the caller does not come, nor does the rest go.
 */
#include "connection.h"

#include <stdlib.h>

/* Nothing is left behind `out_start` afterwards, or a negative errno.  Called locked. */
static int flush(struct tls_connection *connection)
{
    const struct drafter_transport_ops *next = connection->instance->next;

    while (connection->out_start < connection->out_end) {
        struct iovec piece = {.iov_base = connection->out + connection->out_start,
                              .iov_len = connection->out_end - connection->out_start};
        ssize_t done = next->writev(connection->below, &piece, 1);

        if (done < 0)
            return (int)done;
        if (done == 0 || (size_t)done > piece.iov_len)
            return -EIO;
        connection->out_start += (size_t)done;
    }
    connection->out_start = connection->out_end = 0;
    return 0;
}

static void copy_out(struct tls_cursor cursor, size_t skip, uint8_t *to, size_t length)
{
    for (; length > 0; cursor.vector++) {
        size_t here = cursor.vector->iov_len, part;

        if (skip >= here) {
            skip -= here;
            continue;
        }
        part = here - skip < length ? here - skip : length;
        memcpy(to, (const uint8_t *)cursor.vector->iov_base + skip, part);
        to += part;
        length -= part;
        skip = 0;
    }
}

/*
 * After a batch of `length` bytes from `begin` on was not taken whole: takes records back that were not
 * begun (they are all of the same size but the last), and remembers what is in one that was.  The result
 * is how many bytes went.  Called locked.
 */
static size_t take_back(struct tls_connection *connection, const struct tls_cursor *begin, size_t length)
{
    const size_t full = TLS_SEALED_SIZE(TLS_PLAINTEXT_MAX);
    size_t records = (length + TLS_PLAINTEXT_MAX - 1) / TLS_PLAINTEXT_MAX;
    size_t whole = connection->out_start / full * TLS_PLAINTEXT_MAX;
    size_t begun = (connection->out_start + full - 1) / full;

    if (begun < records) {
        connection->secrets->send.sequence -= records - begun;
        connection->out_end = begun * full;
        length = begun * TLS_PLAINTEXT_MAX;
    }
    if (connection->out_start == connection->out_end)
        connection->out_start = connection->out_end = 0;
    if (whole == length)
        return whole;
    connection->again = malloc(TLS_PLAINTEXT_MAX);
    if (!connection->again) {
        connection->closed = true; /* nobody could tell any more what goes next */
        return whole;
    }
    connection->again_length = length - whole;
    connection->again_done = 0;
    copy_out(*begin, whole, connection->again, connection->again_length);
    return whole;
}

/* Passes over bytes that went already: how many, or -EIO when they are others.  Called locked. */
static ssize_t pass_over(struct tls_connection *connection, const struct iovec *vector, size_t length)
{
    size_t left = connection->again_length - connection->again_done;
    size_t part = length < left ? length : left;

    if (part > vector->iov_len)
        part = vector->iov_len;
    if (memcmp(connection->again + connection->again_done, vector->iov_base, part)) {
        connection->closed = true;
        return -EIO;
    }
    connection->again_done += part;
    if (connection->again_done == connection->again_length) {
        free(connection->again);
        connection->again = NULL;
    }
    return (ssize_t)part;
}

static bool reserve(struct tls_connection *connection)
{
    if (!connection->out)
        connection->out = malloc(TLS_BATCH_SIZE);
    return connection->out != NULL;
}

static void seal_one(struct tls_connection *connection, enum tls_content type, const uint8_t *bytes,
                     size_t length)
{
    const struct iovec piece = {.iov_base = (void *)bytes, .iov_len = length};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};

    tls_seal(&connection->secrets->send, type, &cursor, length,
             connection->out + connection->out_end);
    connection->out_end += TLS_SEALED_SIZE(length);
}

/* New keys for our direction, and the peer's when `request` says so (section 4.6.3).  Called locked. */
static int update_keys(struct tls_connection *connection, bool request)
{
    const uint8_t message[] = {TLS_KEY_UPDATE, 0, 0, 1, request};
    struct tls_secrets *secrets = connection->secrets;
    uint8_t *secret = connection->server ? secrets->server_traffic : secrets->client_traffic;

    seal_one(connection, TLS_HANDSHAKE, message, sizeof(message));
    tls_update_secret(secret);
    tls_keys_set(&secrets->send, secret);
    connection->sealed = 0;
    return flush(connection);
}

static int keys_for(struct tls_connection *connection)
{
    if (connection->sealed >= connection->instance->config->rekey_after) {
        atomic_store(&connection->update_wanted, false); /* one answers both */
        return update_keys(connection, true);
    }
    if (atomic_exchange(&connection->update_wanted, false))
        return update_keys(connection, false);
    return 0;
}

/* Seals and sends the next `length` bytes: how many of them went, or a negative errno.  Called locked. */
static ssize_t send_batch(struct tls_connection *connection, struct tls_cursor *from, size_t length)
{
    const struct tls_cursor begin = *from;
    int rc;

    for (size_t left = length; left > 0;) {
        size_t part = left < TLS_PLAINTEXT_MAX ? left : TLS_PLAINTEXT_MAX;

        tls_seal(&connection->secrets->send, TLS_APPLICATION_DATA, from, part,
                 connection->out + connection->out_end);
        connection->out_end += TLS_SEALED_SIZE(part);
        left -= part;
    }
    rc = flush(connection);
    if (rc == 0) {
        connection->sealed += length;
        return (ssize_t)length;
    }
    length = take_back(connection, &begin, length);
    connection->sealed += length;
    if (rc != -ETIMEDOUT)
        connection->closed = true; /* how much of it went is not known: no number may come again */
    return rc == -ETIMEDOUT && length ? (ssize_t)length : rc;
}

/* What a batch holds of the vector. */
static size_t batch_length(const struct iovec *vector, int count)
{
    const size_t most = TLS_BATCH * (size_t)TLS_PLAINTEXT_MAX;
    size_t length = 0;

    for (int i = 0; i < count && length < most; i++)
        length += vector[i].iov_len < most - length ? vector[i].iov_len : most - length;
    return length;
}

static ssize_t write_locked(struct tls_connection *connection, const struct iovec *vector, int count)
{
    struct tls_cursor cursor = {.vector = vector, .count = count};
    size_t length = batch_length(vector, count);
    int rc;

    if (!length)
        return -EINVAL;
    if (atomic_load(&connection->cancelled))
        return -ECANCELED;
    if (connection->closed)
        return -EPIPE;
    if (!reserve(connection))
        return -ENOMEM;
    rc = flush(connection);
    if (!rc && connection->again) {
        while (vector->iov_len == 0)
            vector++;
        return pass_over(connection, vector, length);
    }
    if (!rc)
        rc = keys_for(connection);
    return rc ? rc : send_batch(connection, &cursor, length);
}

ssize_t tls_writev(void *opaque, const struct iovec *vector, int count)
{
    struct tls_connection *connection = opaque;
    ssize_t done;

    pthread_mutex_lock(&connection->write_lock);
    done = write_locked(connection, vector, count);
    pthread_mutex_unlock(&connection->write_lock);
    return done < 0 && atomic_load(&connection->cancelled) ? -ECANCELED : done;
}

void tls_send_last_alert(struct tls_connection *connection, int alert, unsigned patience_ms)
{
    const uint8_t message[2] = {alert == TLS_ALERT_CLOSE_NOTIFY ? 1 : 2, (uint8_t)alert};
    const struct drafter_transport_ops *next = connection->instance->next;

    if (pthread_mutex_trylock(&connection->write_lock)) /* a writer is cut off: no orderly end */
        return;
    /*
     * The rest of a record that was begun stays here unless its writer comes back: to whoever wrote it, it failed,
     * and what has failed (COMMIT, say) must not arrive after all.
     */
    if (connection->again && connection->out_start < connection->out_end)
        connection->closed = true;
    if (!connection->closed && reserve(connection)) {
        next->set_timeout(connection->below, patience_ms);
        if (!flush(connection)) {
            seal_one(connection, TLS_ALERT, message, sizeof(message));
            flush(connection); /* if that fails, too, the peer sees a truncated stream */
        }
        next->set_timeout(connection->below, atomic_load(&connection->timeout_ms));
    }
    connection->closed = true;
    pthread_mutex_unlock(&connection->write_lock);
}
