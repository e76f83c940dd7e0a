/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transport plugins carry reliable, ordered byte streams between two drafter processes.
 *
 * A transport blocks and is driven by threads: the simplest contract a third party can fill.  At any
 * time at most one thread reads and at most one thread writes a connection, and any thread may call
 * shutdown on it, which makes both return soon.  Integrity, framing, heartbeats and reconnection are
 * the core's.
 */
#ifndef DRAFTER_TRANSPORT_H
#define DRAFTER_TRANSPORT_H

#include <drafter/plugin.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct drafter_transport_ops {
    /*
     * Opens a stream to `address`, whose syntax is the transport's own (the manual page of the plugin
     * states it), within `timeout_ms`; 0 waits for ever.  Mandatory.
     */
    int (*connect)(void *instance, const char *address, unsigned timeout_ms, void **ret_connection,
                   struct drafter_error *err);

    /* Begins to accept streams at `address`.  Mandatory. */
    int (*listen)(void *instance, const char *address, void **ret_listener,
                  struct drafter_error *err);

    /*
     * Waits for a stream.  -ECANCELED after listener_shutdown.  Failures that concern one incoming
     * stream only (a peer that went away, no descriptors left) return -EAGAIN; the core waits a little
     * and calls again.  Mandatory.
     */
    int (*accept)(void *instance, void *listener, void **ret_connection, struct drafter_error *err);

    /* The address peers can reach, with a port that the system chose filled in.  Mandatory. */
    int (*listener_address)(void *listener, char *buffer, size_t size);

    /* Makes a waiting accept return -ECANCELED; any thread, any number of times.  Mandatory. */
    void (*listener_shutdown)(void *listener);

    /* Frees a listener that no thread uses any more.  Mandatory. */
    void (*listener_close)(void *listener);

    /*
     * Reads at least one byte: bytes read, 0 at the orderly end of the stream, or a negative errno:
     * -ETIMEDOUT when the receive timeout passed, -ECANCELED after shutdown.  Mandatory.
     */
    ssize_t (*readv)(void *connection, const struct iovec *vector, int count);

    /*
     * Writes at least one byte; as readv.  Never raises SIGPIPE.  What it did not count as written arrives
     * only if it is written again, whatever happens to the connection: a source whose COMMIT failed keeps
     * its VM.  Mandatory.
     */
    ssize_t (*writev)(void *connection, const struct iovec *vector, int count);

    /* How long one readv or writev may wait; 0 means for ever, the default.  Mandatory. */
    int (*set_timeout)(void *connection, unsigned timeout_ms);

    /* Ends both directions and wakes whoever waits; any thread, any number of times.  Mandatory. */
    void (*shutdown)(void *connection);

    /* Frees a connection that no thread uses any more.  Mandatory. */
    void (*close)(void *connection);

    /* Who is at the other end, for messages.  Mandatory. */
    int (*peer_name)(void *connection, char *buffer, size_t size);

    /*
     * Bytes written that the peer's transport has not acknowledged, or a negative errno.  Lets the
     * core keep the queue in front of an urgent answer short.  Optional: unknown.
     */
    ssize_t (*unsent)(void *connection);

    /*
     * Who has proven to be at the other end, as the trust file calls it ("sha256:..."), or "" for a peer
     * that did not have to; the same for the whole life of the connection.  Optional: such a transport
     * cannot know.  Since 1.1.
     */
    int (*peer_identity)(void *connection, char *buffer, size_t size);

    /*
     * Whether streams to `address`, or with `listening` from whoever connects to it, may leave this host.
     * Looks nothing up; in doubt they may.  Optional: they may.  Since 1.1.
     */
    bool (*leaves_host)(void *instance, const char *address, bool listening);

    /*
     * Whether an instance that knows its peers lets in those that connect and do not prove who they are.
     * Optional: it does not.  Since 1.1.
     */
    bool (*admits_unknown)(void *instance);
};

/* Longest identity, with its NUL. */
#define DRAFTER_IDENTITY_SIZE 128

/*
 * For transports that know their peers: whether the trust file of this process has the identity, and
 * under which name.  -ENOENT when it has not, or another negative errno when that cannot be told; then the
 * peer is to be refused.  Any thread; reads the file, so that changes count at once.  Since 1.1.
 */
DRAFTER_PUBLIC int drafter_trust_find(const char *identity, char *ret_name, size_t size);

/* For layers (a transport over a transport): the instance in drafter_context.next. */
DRAFTER_PUBLIC const struct drafter_transport_ops *drafter_next_transport(void *next,
                                                                          void **ret_instance);

#ifdef __cplusplus
}
#endif

#endif
