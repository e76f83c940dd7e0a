/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD server on arbitrary bytes: the negotiation and then requests, or requests alone.  The first
 * byte says which, and what kind of connection it is.  The backend is never asked for what the device has
 * not, and everything ends with the client's last byte.
 */
#include "plugins/device/nbd/server.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICE_SIZE 5000u

static char bytes[DEVICE_SIZE];

static void check(uint64_t length, uint64_t offset)
{
    assert(length > 0 && offset < DEVICE_SIZE && length <= DEVICE_SIZE - offset);
}

static int fuzz_read(void *opaque, void *buffer, size_t length, uint64_t offset)
{
    (void)opaque;
    check(length, offset);
    memcpy(buffer, bytes + offset, length);
    return 0;
}

static int fuzz_write(void *opaque, const void *buffer, size_t length, uint64_t offset)
{
    (void)opaque;
    check(length, offset);
    memcpy(bytes + offset, buffer, length);
    return 0;
}

static int fuzz_flush(void *opaque)
{
    (void)opaque;
    return 0;
}

static int fuzz_trim(void *opaque, uint64_t length, uint64_t offset)
{
    (void)opaque;
    check(length, offset);
    return 0;
}

static const struct drafter_device_spec spec = {
    .name = "disk",
    .size = DEVICE_SIZE,
    .backend = {.struct_size = sizeof(spec.backend),
                .read = fuzz_read,
                .write = fuzz_write,
                .flush = fuzz_flush,
                .trim = fuzz_trim},
};

static void converse(struct server *server, struct export *export, int fd, unsigned kind)
{
    struct conn *conn = conn_new(server, fd);

    assert(conn);
    conn->buffer = pool_buffer_new();
    assert(conn->buffer);
    if (kind & 1) {
        conn->export = export;
        export_hold(export);
    } else if (negotiate(conn) < 0) {
        assert(!conn->export || atomic_load(&conn->broken));
    }
    if (conn->export) {
        conn_serve(conn);
        export_leave(conn->export);
    }
    assert(export->busy == 0 && export->users == 0 && !export->changes);
    pool_buffer_free(conn->buffer);
    conn_put(conn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A client that does not take its answers is left after a moment. */
    const struct timeval patience = {.tv_usec = 1000};
    struct server_config config = {.attach = data && size && data[0] & 2 ? ATTACH_NONE : ATTACH_KERNEL};
    struct server server = {.config = &config, .id = "fuzz"};
    struct export *export = malloc(sizeof(*export));
    int ends[2];

    if (!export || size < 1 || size > 64 << 10 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        free(export);
        return 0;
    }
    pthread_mutex_init(&server.lock, NULL);
    export_init(export, &server, &spec);
    server.exports = export;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (send(ends[1], data + 1, size - 1, MSG_DONTWAIT) >= 0) {
        shutdown(ends[1], SHUT_WR);
        converse(&server, export, ends[0], data[0]);
    } else {
        close(ends[0]);
    }
    close(ends[1]);
    export_release(export);
    pthread_mutex_destroy(&server.lock);
    return 0;
}
