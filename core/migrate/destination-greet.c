/* SPDX-License-Identifier: BSD-2-Clause */
/* Connection, offer, acceptance and the further streams. */
#include "migrate/destination-internal.h"
#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"
#include "util/words.h"

#include <sodium.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GREETING_TIMEOUT_MS 10000
#define CONTROL_TIMEOUT_MS 3000
#define ADDRESS_MAX 256
#define ASK_AGAIN_NS 200000000
#define HAVE_SIZE 16 /* BLAKE2b-128 */

/*
 * Streams take turns with the addresses, and each must lead to the source.  Where a lost link is not found again
 * that way, one address is tried after the other, for all streams.
 */
int destination_dial(struct destination *destination, size_t index,
                     struct transport_connection **ret_connection, struct drafter_error *err)
{
    const struct destination_options *options = &destination->options;
    size_t count = words_count(options->address), n = destination->attempt ? destination->attempt : index;
    char address[ADDRESS_MAX];

    if (!count || !words_get(options->address, n % count, address, sizeof(address)))
        return drafter_error_set(err, EINVAL, "\"%.64s\" is no address", options->address);
    return transport_connect(options->transport, address, options->connect_timeout_ms, ret_connection,
                             err);
}

static int open_stream(struct destination *destination, size_t index, struct stream **ret_stream,
                       struct drafter_error *err)
{
    struct transport_connection *connection;
    int rc = destination_dial(destination, index, &connection, err);

    if (rc)
        return rc;
    if (stream_new(connection, ret_stream))
        return drafter_error_set(err, ENOMEM, "out of memory");
    return 0;
}

static int refused(struct stream *control, const char *text, size_t length,
                   struct drafter_error *err)
{
    struct refusal refusal;

    refusal_decode(text, length, &refusal);
    return drafter_error_set(err, refusal.code, "%s refused: %s", control->peer, refusal.text);
}

static int receive_offer(struct destination *destination, struct drafter_error *err)
{
    struct stream *control = destination->session.control;
    cleanup_free char *payload = malloc(WIRE_JSON_MAX);
    struct wire_header header;
    int rc = payload ? stream_receive(control, &header, payload, WIRE_JSON_MAX) : -ENOMEM;

    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", control->peer, stream_error_text(rc));
    if (header.type == WIRE_ABORT)
        return refused(control, payload, header.length, err);
    if (header.type != WIRE_OFFER)
        return drafter_error_set(err, EPROTO, "%s: %s instead of an offer", control->peer,
                                 wire_type_name(header.type));
    if (offer_decode(payload, header.length, &destination->offer, err))
        return drafter_error_wrap(err, "%s", control->peer);
    memcpy(destination->session.token, destination->offer.token, WIRE_TOKEN_SIZE);
    control->seed = session_seed(destination->session.token);
    return 0;
}

/* HELLO on a new stream, and the answer to it. */
static int ask(struct destination *destination, struct drafter_error *err)
{
    struct hello hello = {.version = WIRE_VERSION, .software = "drafter"};
    int rc;

    memcpy(destination->session.identity, destination->session.control->identity,
           sizeof(destination->session.identity));
    if (gethostname(hello.node, sizeof(hello.node) - 1))
        hello.node[0] = '\0';
    snprintf(hello.role, sizeof(hello.role), "%s", destination->options.role);
    snprintf(hello.vm, sizeof(hello.vm), "%s", destination->options.vm_name);
    transport_set_timeout(destination->session.control->connection, GREETING_TIMEOUT_MS);
    rc = session_send_text(destination->session.control, WIRE_HELLO, 0, hello_encode(&hello));
    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", destination->session.control->peer,
                                 stream_error_text(rc));
    if (failpoint(FAILPOINT_HELLO))
        return drafter_error_set(err, EIO, "a failpoint");
    return receive_offer(destination, err);
}

static void pause_before_asking(void)
{
    static const struct timespec pause = {0, ASK_AGAIN_NS};

    nanosleep(&pause, NULL);
}

/* Nothing is here yet: an answer that does not come, or is damaged, is asked for on a new link. */
int destination_greet(struct destination *destination, struct drafter_error *err)
{
    uint64_t end = drafter_now_ns() + (uint64_t)destination->options.relink_timeout_ms * 1000000;
    int rc = failpoint(FAILPOINT_CONNECT) ? drafter_error_set(err, EIO, "a failpoint") : 0;

    for (unsigned tries = 1; !rc; tries++) {
        rc = open_stream(destination, 0, &destination->session.control, err);
        if (!rc)
            rc = ask(destination, err);
        else if (tries > 1 && session_error_is_link(err->code) && drafter_now_ns() < end)
            rc = -ECONNRESET;
        else
            return rc;
        if (!rc || !session_error_is_link(err->code) || drafter_now_ns() >= end ||
            __atomic_load_n(&destination->cancelled, __ATOMIC_RELAXED))
            return rc;
        log_warning("destination", "no offer yet: %s; asking again", err->message);
        stream_free(destination->session.control);
        destination->session.control = NULL;
        pause_before_asking();
        rc = 0;
    }
    return rc;
}

/* Asks for pages; when the link is gone the question is asked again once it is back. */
void destination_need(void *opaque, struct block_device *block, uint64_t first, uint64_t count)
{
    struct destination *destination = opaque;
    struct wire_header header = {.type = WIRE_NEED, .offset = first << DRAFTER_PAGE_SHIFT};
    int rc;

    while (header.device < destination->device_count &&
           destination->devices[header.device].block != block)
        header.device++;
    header.argument = block_device_run_length(block, first, count);
    pthread_rwlock_rdlock(&destination->link_lock);
    if (destination->session.demand) {
        rc = stream_send(destination->session.demand, header, NULL);
        if (rc)
            session_link_lost(&destination->session, destination->session.demand, rc);
    }
    pthread_rwlock_unlock(&destination->link_lock);
}

/* What this side would have of a block; its storage may know without reading it. */
static int hash_block(struct block_device *block, uint64_t offset, size_t length, char *buffer,
                      uint8_t hash[HAVE_SIZE])
{
    int rc = storage_digest(block->storage, offset, length, hash);

    if (rc == -ENOENT) {
        rc = storage_read(block->storage, buffer, length, offset);
        if (!rc)
            crypto_generichash(hash, HAVE_SIZE, (unsigned char *)buffer, length, NULL, 0);
    }
    if (rc != -EBADMSG)
        return rc;
    randombytes_buf(hash, HAVE_SIZE); /* it is damaged: nothing is like it, so that the source sends it */
    return 0;
}

static int send_block_hashes(struct destination *destination, unsigned index, char *buffer)
{
    struct block_device *block = destination->devices[index].block;
    struct wire_header header = {.type = WIRE_HASHES, .device = (uint16_t)index};
    uint8_t hashes[64 * HAVE_SIZE];
    int rc = 0;

    for (uint64_t offset = 0; !rc && offset < block->size;) {
        header.offset = offset;
        header.length = 0;
        for (; !rc && header.length < sizeof(hashes) && offset < block->size;
             offset += block->block_size, header.length += HAVE_SIZE) {
            uint64_t left = block->size - offset;
            size_t length = left < block->block_size ? (size_t)left : block->block_size;

            rc = hash_block(block, offset, length, buffer, hashes + header.length);
        }
        if (!rc)
            rc = stream_send(destination->session.control, header, hashes);
    }
    return rc;
}

static int send_all_hashes(struct destination *destination)
{
    cleanup_free char *buffer = malloc(WIRE_DATA_MAX);
    int rc = buffer ? 0 : -ENOMEM;

    for (unsigned i = 0; !rc && i < destination->device_count; i++)
        if (destination->devices[i].reuse)
            rc = send_block_hashes(destination, i, buffer);
    return rc;
}

static int join_stream(struct destination *destination, unsigned index, struct drafter_error *err)
{
    struct session *session = &destination->session;
    const struct wire_header header = {
        .type = WIRE_JOIN, .argument = index, .length = WIRE_TOKEN_SIZE};
    struct stream *stream = NULL;
    int rc = open_stream(destination, index, &stream, err);

    if (!rc && stream_check_peer(stream, session->identity, err)) {
        rc = -EACCES;
        stream_free(stream);
    }
    if (rc)
        return rc;
    rc = stream_send(stream, header, session->token);
    stream->seed = session_seed(session->token);
    pthread_rwlock_wrlock(&destination->link_lock);
    pthread_mutex_lock(&session->lock);
    if (index == 1)
        session->demand = stream;
    else
        session->bulk[session->bulk_count++] = stream;
    pthread_mutex_unlock(&session->lock);
    pthread_rwlock_unlock(&destination->link_lock);
    return rc ? drafter_error_set(err, -rc, "%s: %s", stream->peer, stream_error_text(rc)) : 0;
}

static int start_readers(struct destination *destination, struct drafter_error *err)
{
    struct session *session = &destination->session;

    for (unsigned i = 0; i <= session->bulk_count; i++) {
        struct destination_reader *reader = &destination->readers[i];

        *reader = (struct destination_reader){
            .destination = destination,
            .stream = i < session->bulk_count ? session->bulk[i] : session->demand};
        if (pthread_create(&reader->thread, NULL, destination_stream_main, reader))
            return drafter_error_set(err, EAGAIN, "cannot start a thread");
        reader->running = true;
    }
    if (pthread_create(&destination->control_reader, NULL, destination_control_main, destination))
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    destination->control_running = true;
    return 0;
}

int destination_open_streams(struct destination *destination, struct drafter_error *err)
{
    struct session *session = &destination->session;
    const struct acceptance acceptance = {.bulk_streams = destination->options.bulk_streams};
    int rc = session_send_text(session->control, WIRE_ACCEPT, 0, acceptance_encode(&acceptance));

    if (rc)
        return drafter_error_set(err, -rc, "%s: %s", session->control->peer, stream_error_text(rc));
    for (unsigned i = 0; !rc && i <= acceptance.bulk_streams; i++)
        rc = join_stream(destination, i + 1, err);
    if (rc)
        return rc;
    transport_set_timeout(session->control->connection, CONTROL_TIMEOUT_MS);
    rc = start_readers(destination, err);
    return rc ? rc : session_start_heartbeat(session, err);
}

/* What is here already, which only the first link asks for; one that breaks while it is told has not. */
int destination_tell_hashes(struct destination *destination, struct drafter_error *err)
{
    int rc = destination->accepted ? 0 : send_all_hashes(destination);

    destination->accepted |= !rc;
    return rc ? drafter_error_set(err, -rc, "%s: %s", destination->session.control->peer,
                                  stream_error_text(rc))
              : 0;
}

int destination_accept(struct destination *destination, struct drafter_error *err)
{
    int rc = failpoint(FAILPOINT_EXCHANGE) ? drafter_error_set(err, EIO, "a failpoint") : 0;

    if (!rc)
        rc = destination_tell_hashes(destination, err);
    return rc ? rc : destination_open_streams(destination, err);
}

/* Ends the threads of the link; its streams stay until they are replaced. */
void destination_end_link(struct destination *destination)
{
    session_stop(&destination->session);
    for (unsigned i = 0; i < WIRE_STREAMS_MAX; i++) {
        if (destination->readers[i].running)
            pthread_join(destination->readers[i].thread, NULL);
        destination->readers[i].running = false;
    }
    if (destination->control_running)
        pthread_join(destination->control_reader, NULL);
    destination->control_running = false;
}
