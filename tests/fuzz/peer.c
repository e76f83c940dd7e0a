/* SPDX-License-Identifier: BSD-2-Clause */
#include "peer.h"

#include "migrate/session.h"
#include "util/cleanup.h"

#include <assert.h>
#include <string.h>
#include <time.h>

#define WAIT_MS 25
#define FRAMES_MAX 96
#define OPERATION 8

struct frame {
    struct wire_header header;
    uint8_t wait, argument;
    bool raw, seeded, text;
    char *payload;
};

struct connection {
    struct peer *peer;
    unsigned link, index; /* index PEER_STREAMS: not known before its first frame */
    char *bytes;          /* of the frame that is being read */
    size_t length, at;
    uint64_t sequence;
    bool shut;
};

struct queue {
    struct frame frames[FRAMES_MAX];
    unsigned count, next;
    bool finished;
};

struct peer {
    struct plugin plugin;
    struct instance transport;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under `lock`: */
    struct queue queues[PEER_LINKS][PEER_STREAMS];
    unsigned heard[64], waited[64];
    uint64_t mark, seed;
    unsigned links; /* HELLOs */
    void (*on_frame)(void *opaque, unsigned type);
    void *opaque;
};

/* Reading the input */

static void add(struct queue *queue, const struct frame *frame)
{
    if (queue->count == FRAMES_MAX)
        free(frame->payload);
    else
        queue->frames[queue->count++] = *frame;
}

static size_t add_operation(struct peer *peer, const uint8_t *at, size_t left)
{
    unsigned scale = at[7] & 0x7f;
    size_t length = at[7] & 0x80 ? scale * 4096u : scale, taken = 0;
    struct frame frame = {.wait = at[6] & 63, .argument = at[5], .raw = at[0] >> 7, .seeded = true};

    if (!(at[7] & 0x80))
        taken = length < left - OPERATION ? length : left - OPERATION;
    frame.header = (struct wire_header){.type = at[1] & 63,
                                        .device = at[2],
                                        .generation = at[3],
                                        .offset = (uint64_t)at[4] << DRAFTER_PAGE_SHIFT,
                                        .length = (uint32_t)length};
    frame.payload = calloc(1, length + 1);
    assert(frame.payload);
    if (at[7] & 0x80)
        memset(frame.payload, at[4], length);
    else
        memcpy(frame.payload, at + OPERATION, taken);
    add(&peer->queues[at[0] >> 2 & 1][at[0] & 3], &frame);
    return OPERATION + taken;
}

void peer_say_first(struct peer *peer, unsigned link, unsigned type, uint64_t argument,
                    const char *text, bool seeded)
{
    struct queue *queue = &peer->queues[link][0];
    struct frame frame = {
        .header = {.type = (uint16_t)type, .argument = argument, .length = (uint32_t)strlen(text)},
        .seeded = seeded,
        .text = true,
        .payload = strdup(text)};

    if (queue->count == FRAMES_MAX)
        free(queue->frames[--queue->count].payload);
    memmove(queue->frames + 1, queue->frames, queue->count * sizeof(frame));
    queue->frames[0] = frame;
    queue->count++;
}

/* Connections */

static struct connection *connection_new(struct peer *peer, unsigned link, unsigned index)
{
    struct connection *connection = calloc(1, sizeof(*connection));

    assert(connection);
    *connection = (struct connection){.peer = peer, .link = link, .index = index};
    return connection;
}

static void wait_a_moment(struct peer *peer, unsigned ms)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_nsec += ms * 1000000l;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&peer->changed, &peer->lock, &deadline);
}

static uint64_t expected_argument(const struct peer *peer, const struct frame *frame)
{
    if (frame->text)
        return frame->header.argument;
    if (frame->argument == 254)
        return UINT64_MAX - 4095;
    if (frame->argument != 255)
        return (uint64_t)frame->argument << DRAFTER_PAGE_SHIFT;
    return frame->header.type == WIRE_ACK     ? peer->mark
           : frame->header.type == WIRE_PONG  ? 0
           : frame->header.type == WIRE_DELTA ? 1
           : frame->header.type >= WIRE_DATA  ? 4096
                                              : PEER_EPOCH + 1;
}

/* Waits for what the frame waits for; false when the stream has no more of them. */
static bool next_frame(struct connection *connection, struct frame *ret_frame)
{
    struct peer *peer = connection->peer;
    struct queue *queue = &peer->queues[connection->link][connection->index];
    uint64_t until;

    if (queue->next == queue->count)
        return false;
    *ret_frame = queue->frames[queue->next++];
    ret_frame->header.argument = expected_argument(peer, ret_frame);
    until = drafter_now_ns() + WAIT_MS * UINT64_C(1000000);
    while (ret_frame->wait && !connection->shut &&
           peer->heard[ret_frame->wait] <= peer->waited[ret_frame->wait] &&
           drafter_now_ns() < until)
        wait_a_moment(peer, WAIT_MS);
    if (ret_frame->wait && peer->heard[ret_frame->wait] > peer->waited[ret_frame->wait])
        peer->waited[ret_frame->wait]++;
    ret_frame->header.argument = expected_argument(peer, ret_frame);
    return true;
}

/* Under the lock.  0 at the end of the control stream; others wait for shutdown then. */
static ssize_t prepare(struct connection *connection)
{
    struct peer *peer = connection->peer;
    struct frame frame;

    while (connection->index == PEER_STREAMS && !connection->shut)
        wait_a_moment(peer, 100);
    if (connection->shut)
        return -ECANCELED;
    if (!next_frame(connection, &frame)) {
        struct queue *queue = &peer->queues[connection->link][connection->index];

        queue->finished = true;
        pthread_cond_broadcast(&peer->changed);
        while (connection->index && !connection->shut)
            wait_a_moment(peer, 100);
        return connection->shut ? -ECANCELED : 0;
    }
    connection->at = 0;
    connection->length = frame.raw ? frame.header.length : WIRE_HEADER_SIZE + frame.header.length;
    connection->bytes = malloc(connection->length + 1);
    assert(connection->bytes);
    frame.header.sequence = connection->sequence++;
    if (!frame.raw)
        wire_encode(&frame.header, frame.seeded ? peer->seed : 0, frame.payload, connection->bytes);
    memcpy(connection->bytes + connection->length - frame.header.length, frame.payload,
           frame.header.length);
    return 1;
}

static ssize_t peer_readv(void *data, const struct iovec *vector, int count)
{
    struct connection *connection = data;
    size_t left, part;
    ssize_t rc = 1;

    (void)count;
    lock_scope(&connection->peer->lock);
    while (rc > 0 && connection->at == connection->length) {
        free(connection->bytes);
        connection->bytes = NULL;
        connection->at = connection->length = 0;
        rc = prepare(connection);
    }
    if (rc <= 0)
        return rc;
    left = connection->length - connection->at;
    part = left < vector[0].iov_len ? left : vector[0].iov_len;
    memcpy(vector[0].iov_base, connection->bytes + connection->at, part);
    connection->at += part;
    return (ssize_t)part;
}

static void hear(struct connection *connection, const char *bytes)
{
    struct peer *peer = connection->peer;
    struct wire_header header;

    assert(!wire_decode(bytes, &header)); /* what the engine sends makes sense */
    if (connection->index == PEER_STREAMS && header.type == WIRE_HELLO) {
        connection->index = 0;
        connection->link = peer->links++ ? 1 : 0;
    } else if (connection->index == PEER_STREAMS) {
        connection->index = header.argument < PEER_STREAMS ? (unsigned)header.argument : 2;
        connection->link = peer->links > 1;
    }
    if (header.type == WIRE_MARK)
        peer->mark = header.argument;
    peer->heard[header.type & 63]++;
    if (peer->on_frame)
        peer->on_frame(peer->opaque, header.type);
    pthread_cond_broadcast(&peer->changed);
}

static ssize_t peer_writev(void *data, const struct iovec *vector, int count)
{
    struct connection *connection = data;
    ssize_t length = 0;

    lock_scope(&connection->peer->lock);
    if (connection->shut)
        return -ECANCELED;
    assert(vector[0].iov_len == WIRE_HEADER_SIZE);
    hear(connection, vector[0].iov_base);
    for (int i = 0; i < count; i++)
        length += (ssize_t)vector[i].iov_len;
    return length;
}

static void peer_shutdown(void *data)
{
    struct connection *connection = data;

    lock_scope(&connection->peer->lock);
    connection->shut = true;
    if (!connection->index) /* what it had left to say nobody will hear */
        connection->peer->queues[connection->link][0].finished = true;
    pthread_cond_broadcast(&connection->peer->changed);
}

static void peer_close(void *data)
{
    struct connection *connection = data;

    free(connection->bytes);
    free(connection);
}

static int peer_set_timeout(void *data, unsigned ms)
{
    (void)data;
    (void)ms;
    return 0;
}

static int peer_name(void *data, char *buffer, size_t size)
{
    (void)data;
    snprintf(buffer, size, "fuzz");
    return 0;
}

static int peer_connect(void *data, const char *address, unsigned ms, void **ret_connection,
                        struct drafter_error *err)
{
    struct peer *peer = data;

    (void)address;
    (void)ms;
    lock_scope(&peer->lock);
    if (peer->links > PEER_LINKS)
        return drafter_error_set(err, ECONNREFUSED, "no more links");
    *ret_connection = connection_new(peer, 0, PEER_STREAMS);
    return 0;
}

static const struct drafter_transport_ops transport_ops = {
    .connect = peer_connect,
    .readv = peer_readv,
    .writev = peer_writev,
    .set_timeout = peer_set_timeout,
    .shutdown = peer_shutdown,
    .close = peer_close,
    .peer_name = peer_name,
};

struct peer *peer_new(const uint8_t *data, size_t size, uint64_t seed)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    pthread_condattr_t attributes;

    assert(peer);
    pthread_mutex_init(&peer->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&peer->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    peer->seed = seed;
    peer->plugin.ops = (void *)&transport_ops;
    peer->plugin.descriptor.kind = DRAFTER_KIND_TRANSPORT;
    peer->plugin.descriptor.name = "fuzz";
    peer->transport =
        (struct instance){.plugin = &peer->plugin, .data = peer, .id = (char *)"fuzz"};
    while (size >= OPERATION) {
        size_t used = add_operation(peer, data, size);

        data += used;
        size -= used;
    }
    return peer;
}

void peer_free(struct peer *peer)
{
    for (unsigned link = 0; link < PEER_LINKS; link++)
        for (unsigned i = 0; i < PEER_STREAMS; i++)
            for (unsigned j = 0; j < peer->queues[link][i].count; j++)
                free(peer->queues[link][i].frames[j].payload);
    pthread_cond_destroy(&peer->changed);
    pthread_mutex_destroy(&peer->lock);
    free(peer);
}

struct instance *peer_transport(struct peer *peer)
{
    return &peer->transport;
}

struct stream *peer_stream(struct peer *peer, unsigned link, unsigned index)
{
    struct transport_connection *connection = calloc(1, sizeof(*connection));
    struct stream *stream;

    assert(connection);
    connection->transport = &peer->transport;
    connection->data = connection_new(peer, link, index);
    assert(!stream_new(connection, &stream));
    return stream;
}

void peer_set_seed(struct peer *peer, uint64_t seed)
{
    peer->seed = seed;
}

bool peer_finished(struct peer *peer, unsigned link, unsigned ms)
{
    lock_scope(&peer->lock);
    if (!peer->queues[link][0].finished)
        wait_a_moment(peer, ms);
    return peer->queues[link][0].finished;
}

bool peer_heard(struct peer *peer, unsigned type)
{
    lock_scope(&peer->lock);
    return peer->heard[type] > 0;
}

void peer_on_frame(struct peer *peer, void (*heard)(void *opaque, unsigned type), void *opaque)
{
    peer->on_frame = heard;
    peer->opaque = opaque;
}

/* Storage */

struct array {
    struct plugin plugin;
    struct instance storage;
    uint64_t size;
    char bytes[];
};

static uint64_t array_size(void *data)
{
    return ((struct array *)data)->size;
}

static int array_pread(void *data, void *buffer, size_t length, uint64_t offset)
{
    memcpy(buffer, ((struct array *)data)->bytes + offset, length);
    return 0;
}

static int array_pwrite(void *data, const void *buffer, size_t length, uint64_t offset)
{
    memcpy(((struct array *)data)->bytes + offset, buffer, length);
    return 0;
}

static int array_flush(void *data)
{
    (void)data;
    return 0;
}

static const struct drafter_storage_ops array_ops = {
    .size = array_size, .pread = array_pread, .pwrite = array_pwrite, .flush = array_flush};

struct instance *peer_storage(uint64_t size)
{
    struct array *array = calloc(1, sizeof(*array) + size);

    assert(array);
    array->size = size;
    for (uint64_t i = 0; i < size; i += 5000)
        array->bytes[i] = (char)(i / 5000 + 1);
    array->plugin.ops = (void *)&array_ops;
    array->plugin.descriptor.kind = DRAFTER_KIND_STORAGE;
    array->plugin.descriptor.name = "array";
    array->storage =
        (struct instance){.plugin = &array->plugin, .data = array, .id = (char *)"array"};
    return &array->storage;
}

void peer_storage_free(struct instance *storage)
{
    free(storage->data);
}
