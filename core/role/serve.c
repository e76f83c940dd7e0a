/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/serve.h"

#include "util/cleanup.h"
#include "util/failpoint.h"
#include "util/log.h"
#include "util/words.h"

#include <string.h>
#include <time.h>

/* What a peer may cost before it said who it is. */
#define GREETING_TIMEOUT_MS 5000
#define THREAD_STACK (1 << 20) /* JSON may nest 2048 deep */
#define CONNECTIONS_MAX 512

struct connection {
    struct server *server;
    struct stream *stream;
    struct connection *next, *previous; /* server.lock: among those that greet */
};

/* One of the addresses at which peers come in. */
struct door {
    struct server *server;
    struct transport_listener *listener;
    pthread_t acceptor;
    char address[256]; /* with the real port */
};

struct server {
    struct door doors[SERVER_ADDRESSES_MAX];
    unsigned door_count;
    struct server_ops ops;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under `lock`: */
    struct source *sessions[SERVER_SESSIONS_MAX];
    unsigned connections; /* threads that serve one */
    struct connection *greeting; /* of them, those that did not say who they are */
    bool stopping;
    const char *why;
};

static struct source *find(struct server *server, const uint8_t *token)
{
    for (unsigned i = 0; i < SERVER_SESSIONS_MAX; i++)
        if (server->sessions[i] &&
            !memcmp(source_token(server->sessions[i]), token, WIRE_TOKEN_SIZE))
            return server->sessions[i];
    return NULL;
}

/* A further stream of a session that must be under way. */
static void join(struct server *server, struct stream *stream, const struct wire_header *header,
                 const uint8_t *token)
{
    struct source *source = NULL;

    transport_set_timeout(stream->connection, 0);
    pthread_mutex_lock(&server->lock);
    if (header->length == WIRE_TOKEN_SIZE)
        source = find(server, token);
    if (source) /* under the lock: the session cannot end and be freed meanwhile */
        source_attach(source, (unsigned)header->argument, stream);
    pthread_mutex_unlock(&server->lock);
    if (!source) {
        log_warning("serve", "%s: it wants to join a session that is not under way", stream->peer);
        stream_free(stream);
    }
}

static bool add_session(struct server *server, struct source *source)
{
    lock_scope(&server->lock);
    for (unsigned i = 0; !server->stopping && i < SERVER_SESSIONS_MAX; i++) {
        if (server->sessions[i])
            continue;
        server->sessions[i] = source;
        return true;
    }
    return false;
}

static void remove_session(struct server *server, struct source *source)
{
    lock_scope(&server->lock);
    for (unsigned i = 0; i < SERVER_SESSIONS_MAX; i++)
        if (server->sessions[i] == source)
            server->sessions[i] = NULL;
}

/* `epoch`: what voids the peer's, or 0. */
static void refuse(struct stream *stream, uint64_t epoch, const struct drafter_error *error)
{
    log_warning("serve", "%s refused: %s", stream->peer, error->message);
    session_send_refusal(stream, WIRE_ABORT, epoch, "hello", error);
    stream_free(stream);
}

/* A peer whose link broke goes on with its session. */
static void come_back(struct server *server, struct stream *stream, const struct hello *hello)
{
    struct drafter_error error = {0};
    struct source *source;
    uint64_t epoch = 0;
    bool taken;

    pthread_mutex_lock(&server->lock);
    source = find(server, hello->token);
    taken = source && source_relink(source, stream);
    pthread_mutex_unlock(&server->lock);
    if (taken)
        return;
    drafter_error_set(&error, ENOENT, "the session is over here");
    if (server->ops.stranger)
        server->ops.stranger(server->ops.opaque, hello, stream->identity, &epoch, &error);
    refuse(stream, epoch, &error);
}

static void run_session(struct server *server, struct source *source)
{
    struct drafter_error error = {0};
    enum source_outcome outcome = source_run(source, &error);

    remove_session(server, source);
    server->ops.end(server->ops.opaque, outcome, &error);
    source_free(source);
}

/* Whoever lost the link before the hand-over gives way to somebody who asks anew.  False: nobody does. */
static bool make_way(struct server *server)
{
    bool any = false;

    lock_scope(&server->lock);
    for (unsigned i = 0; i < SERVER_SESSIONS_MAX; i++)
        if (server->sessions[i])
            any |= source_yield(server->sessions[i], "another peer asks for the VM");
    return any;
}

static int begin(struct server *server, const struct hello *hello, struct stream *stream,
                 struct source **ret_source, struct drafter_error *err)
{
    int rc = server->ops.begin(server->ops.opaque, hello, stream, ret_source, err);

    if (rc != -EBUSY || !make_way(server))
        return rc;
    *err = (struct drafter_error){0};
    return server->ops.begin(server->ops.opaque, hello, stream, ret_source, err);
}

static void serve_session(struct server *server, struct stream *stream, const char *text,
                          size_t length)
{
    struct drafter_error error = {0};
    struct source *source = NULL;
    struct hello hello;

    failpoint(FAILPOINT_HELLO);
    if (!hello_decode(text, length, &hello, &error) && hello.reconnect) {
        come_back(server, stream, &hello);
        return;
    }
    if (error.code ||
        begin(server, &hello, stream, &source, &error)) {
        refuse(stream, 0, &error);
        return;
    }
    if (!add_session(server, source))
        source_cancel(source, "too many sessions, or the node is stopping");
    run_session(server, source);
}

/* From here on server_stop ends the stream, until greeting_over. */
static void greeting_begins(struct connection *connection)
{
    struct server *server = connection->server;

    lock_scope(&server->lock);
    connection->previous = NULL;
    connection->next = server->greeting;
    if (connection->next)
        connection->next->previous = connection;
    server->greeting = connection;
    if (server->stopping)
        stream_shutdown(connection->stream);
}

static void greeting_over(struct connection *connection)
{
    struct server *server = connection->server;

    lock_scope(&server->lock);
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->greeting = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
}

static int receive_greeting(struct connection *connection, struct wire_header *header, char *payload)
{
    struct stream *stream = connection->stream;
    int rc;

    stream->receive_deadline = drafter_now_ns() + GREETING_TIMEOUT_MS * UINT64_C(1000000);
    greeting_begins(connection);
    rc = stream_receive(stream, header, payload, WIRE_JSON_MAX);
    greeting_over(connection);
    stream->receive_deadline = 0;
    return rc;
}

static void *connection_main(void *opaque)
{
    struct connection *connection = opaque;
    struct server *server = connection->server;
    struct stream *stream = connection->stream;
    cleanup_free char *payload = malloc(WIRE_JSON_MAX);
    struct wire_header header;
    int rc = failpoint(FAILPOINT_CONNECT);

    if (!rc)
        rc = payload ? receive_greeting(connection, &header, payload) : -ENOMEM;
    free(connection);
    if (!rc && header.type == WIRE_HELLO) {
        serve_session(server, stream, payload, header.length);
    } else if (!rc && header.type == WIRE_JOIN) {
        join(server, stream, &header, (uint8_t *)payload);
    } else {
        log_warning("serve", "%s: no greeting: %s", stream->peer,
                    rc ? stream_error_text(rc) : "another frame came first");
        stream_free(stream);
    }
    pthread_mutex_lock(&server->lock);
    server->connections--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* Counts the connection in; false when there are too many. */
static bool enter(struct server *server)
{
    lock_scope(&server->lock);
    if (server->stopping || server->connections == CONNECTIONS_MAX)
        return false;
    server->connections++;
    return true;
}

static void leave(struct server *server)
{
    lock_scope(&server->lock);
    server->connections--;
    pthread_cond_broadcast(&server->changed);
}

static void start_connection(struct server *server, struct transport_connection *incoming)
{
    struct connection *connection = malloc(sizeof(*connection));
    struct stream *stream = NULL;
    pthread_attr_t attributes;
    pthread_t thread;
    bool started = false;

    transport_set_timeout(incoming, GREETING_TIMEOUT_MS);
    if (stream_new(incoming, &stream) || !connection || !enter(server)) {
        free(connection);
        stream_free(stream);
        return;
    }
    *connection = (struct connection){.server = server, .stream = stream};
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    started = !pthread_create(&thread, &attributes, connection_main, connection);
    pthread_attr_destroy(&attributes);
    if (!started) {
        free(connection);
        stream_free(stream);
        leave(server);
    }
}

struct resumed {
    struct server *server;
    struct source *source;
};

static void *resumed_main(void *opaque)
{
    struct resumed *resumed = opaque;
    struct server *server = resumed->server;

    run_session(server, resumed->source);
    free(resumed);
    leave(server);
    return NULL;
}

/* Of a session that was added. */
static int start_resumed(struct server *server, struct source *source, struct drafter_error *err)
{
    struct resumed *resumed = malloc(sizeof(*resumed));
    pthread_attr_t attributes;
    pthread_t thread;
    bool started = false;

    if (resumed && enter(server)) {
        *resumed = (struct resumed){.server = server, .source = source};
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        started = !pthread_create(&thread, &attributes, resumed_main, resumed);
        pthread_attr_destroy(&attributes);
        if (!started)
            leave(server);
    }
    if (started)
        return 0;
    free(resumed);
    return drafter_error_set(err, EAGAIN, "cannot go on with a hand-over");
}

static void *accept_main(void *opaque)
{
    static const struct timespec pause = {0, 10000000};
    struct door *door = opaque;

    for (;;) {
        struct transport_connection *incoming;
        struct drafter_error error = {0};
        int rc = transport_accept(door->listener, &incoming, &error);

        if (!rc) {
            start_connection(door->server, incoming);
        } else if (rc == -EAGAIN) {
            nanosleep(&pause, NULL);
        } else {
            if (rc != -ECANCELED)
                log_error("serve", "%s", error.message);
            return NULL;
        }
    }
}

static int open_door(struct server *server, struct instance *transport, const char *address,
                     struct drafter_error *err)
{
    struct door *door = &server->doors[server->door_count];
    int rc = transport_listen(transport, address, &door->listener, err);

    if (rc)
        return rc;
    transport_listener_address(door->listener, door->address, sizeof(door->address));
    door->server = server;
    if (pthread_create(&door->acceptor, NULL, accept_main, door)) {
        transport_listener_close(door->listener);
        return drafter_error_set(err, EAGAIN, "cannot start a thread");
    }
    server->door_count++;
    log_event("listening", "\"address\":\"%s\"", door->address);
    return 0;
}

static int open_doors(struct server *server, struct instance *transport, const char *addresses,
                      struct drafter_error *err)
{
    char address[256];
    size_t count = words_count(addresses);

    if (!count || count > SERVER_ADDRESSES_MAX)
        return drafter_error_set(err, EINVAL, "\"%.64s\": wanted 1 to %d addresses", addresses,
                                 SERVER_ADDRESSES_MAX);
    for (size_t i = 0; i < count; i++) {
        int rc;

        if (!words_get(addresses, i, address, sizeof(address)))
            return drafter_error_set(err, ENAMETOOLONG, "an address is too long");
        rc = open_door(server, transport, address, err);
        if (rc)
            return rc;
    }
    return 0;
}

int server_start(struct instance *transport, const char *addresses, const struct server_ops *ops,
                 struct server **ret_server, struct drafter_error *err)
{
    return server_start_resumed(transport, addresses, ops, NULL, ret_server, err);
}

int server_start_resumed(struct instance *transport, const char *addresses, const struct server_ops *ops,
                         struct source *source, struct server **ret_server, struct drafter_error *err)
{
    struct server *server = calloc(1, sizeof(*server));
    int rc;

    if (!server)
        return drafter_error_set(err, ENOMEM, "out of memory");
    server->ops = *ops;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    server->sessions[0] = source;
    rc = open_doors(server, transport, addresses, err);
    if (!rc && source)
        rc = start_resumed(server, source, err);
    if (rc) {
        remove_session(server, source); /* it stays the caller's */
        server_stop(server, "not all addresses can be listened at");
        return rc;
    }
    *ret_server = server;
    return 0;
}

static void close_doors(struct server *server)
{
    for (unsigned i = 0; i < server->door_count; i++)
        transport_listener_shutdown(server->doors[i].listener);
    for (unsigned i = 0; i < server->door_count; i++)
        pthread_join(server->doors[i].acceptor, NULL);
}

static void cancel_sessions(struct server *server, const char *why)
{
    for (unsigned i = 0; i < SERVER_SESSIONS_MAX; i++)
        if (server->sessions[i])
            source_cancel(server->sessions[i], why);
}

void server_cancel(struct server *server, const char *why)
{
    lock_scope(&server->lock);
    cancel_sessions(server, why);
}

void server_addresses(const struct server *server, char *buffer, size_t size)
{
    size_t used = 0;

    *buffer = '\0';
    for (unsigned i = 0; i < server->door_count && used < size; i++) {
        int length = snprintf(buffer + used, size - used, "%s%s", i ? " " : "",
                              server->doors[i].address);

        used += length > 0 ? (size_t)length : 0;
    }
}

void server_stop(struct server *server, const char *why)
{
    if (!server)
        return;
    close_doors(server);
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    cancel_sessions(server, why);
    for (struct connection *greeting = server->greeting; greeting; greeting = greeting->next)
        stream_shutdown(greeting->stream);
    while (server->connections)
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < server->door_count; i++)
        transport_listener_close(server->doors[i].listener);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->changed);
    free(server);
}
