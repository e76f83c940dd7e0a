/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS 1.3 over another transport: options, instances, connecting, and the table of operations.
 *
 *     tls.c listen.c drive.c          connecting, accepting, and the I/O of handshakes
 *     connection.c read.c write.c     a connection after its handshake
 *     handshake.c client.c server.c   the state machine of a handshake, without I/O
 *     authenticate.c                  keys, certificates, signatures, Finished
 *     hello.c message.c codec.h       messages as bytes
 *     record.c schedule.c             record protection, key schedule
 *     x509.c der.c credentials.c      certificates and keys
 *     ticket.c alert.c
 */
#include "connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

static const struct drafter_option tls_options[] = {
    {.key = "key", .type = DRAFTER_OPTION_PATH, .offset = offsetof(struct tls_config, key),
     .help = "private key of this node, which drafter keygen makes"},
    {.key = "certificate", .type = DRAFTER_OPTION_PATH,
     .offset = offsetof(struct tls_config, certificate),
     .help = "certificate of that key, for peers that know no raw public keys"},
    {.key = "psk-file", .type = DRAFTER_OPTION_PATH, .offset = offsetof(struct tls_config, psk_file),
     .help = "keys shared with peers beforehand, a line identity:hexadecimal for each"},
    {.key = "psk-identity", .type = DRAFTER_OPTION_STRING,
     .offset = offsetof(struct tls_config, psk_identity),
     .help = "the one of them to connect with, in place of the private key"},
    {.key = "require-client", .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct tls_config, require_client), .default_value = "yes",
     .help = "refuse peers that connect and do not prove who they are"},
    {.key = "resumption", .type = DRAFTER_OPTION_BOOL,
     .offset = offsetof(struct tls_config, resumption), .default_value = "yes",
     .help = "let further streams of a peer resume the first, without signatures"},
    {.key = "handshake-timeout", .type = DRAFTER_OPTION_DURATION,
     .offset = offsetof(struct tls_config, handshake_timeout), .default_value = "5s",
     .minimum = SECOND / 100, .maximum = 60 * SECOND, .help = "how long a peer may take to prove itself"},
    {.key = "handshakes-max", .type = DRAFTER_OPTION_UINT,
     .offset = offsetof(struct tls_config, handshakes_max), .default_value = "256", .minimum = 1,
     .maximum = 4096, .help = "handshakes at a time; a further one takes the place of the oldest"},
    {.key = "rekey-after", .type = DRAFTER_OPTION_SIZE,
     .offset = offsetof(struct tls_config, rekey_after), .default_value = "64G", .minimum = 1,
     .maximum = UINT64_C(1) << 50, .help = "bytes after which both directions take new keys"},
    DRAFTER_OPTION_END,
};

static int64_t tls_now(void)
{
    return (int64_t)time(NULL);
}

/* *ret_psk: the key to connect with, if it is one that is shared. */
static int tls_load(const struct tls_config *config, struct tls_credentials *credentials,
                    const struct tls_psk **ret_psk, struct drafter_error *err)
{
    int rc = 0;

    if (!config->key && !config->psk_file)
        return drafter_error_set(err, EINVAL, "tls: neither key nor psk-file is set; make a key with "
                                              "drafter keygen");
    if (config->certificate && !config->key)
        return drafter_error_set(err, EINVAL, "tls: certificate needs key");
    if (config->psk_identity && !config->psk_file)
        return drafter_error_set(err, EINVAL, "tls: psk-identity needs psk-file");
    if (config->key)
        rc = tls_load_key(credentials, config->key, err);
    if (!rc && config->certificate)
        rc = tls_load_certificate(credentials, config->certificate, err);
    if (!rc && config->psk_file)
        rc = tls_load_psks(credentials, config->psk_file, err);
    if (!rc && config->psk_identity) {
        *ret_psk = tls_psk_find(credentials, (const uint8_t *)config->psk_identity,
                                strlen(config->psk_identity));
        if (!*ret_psk)
            rc = drafter_error_set(err, ENOENT, "tls: %s has no key for psk-identity \"%s\"",
                                   config->psk_file, config->psk_identity);
    }
    return rc;
}

static int tls_probe(const void *config, struct drafter_probe *ret_probe)
{
    struct tls_credentials *credentials = sodium_init() < 0 ? NULL : tls_credentials_new();
    char identity[TLS_IDENTITY_SIZE] = "known by keys that it shares";
    const struct tls_psk *psk = NULL;
    struct drafter_error error = {0};
    int rc;

    if (!credentials)
        return -ENOMEM;
    rc = tls_load(config, credentials, &psk, &error);
    ret_probe->usable = rc == 0;
    if (credentials->has_key)
        tls_key_identity(credentials->secret_key + 32, identity);
    if (rc)
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "%.255s", error.message);
    else
        snprintf(ret_probe->reason, sizeof(ret_probe->reason), "this node is %s", identity);
    if (rc == -ENOENT)
        snprintf(ret_probe->remedy, sizeof(ret_probe->remedy), "make a key with drafter keygen");
    tls_credentials_free(credentials);
    return 0;
}

static void tls_destroy(void *opaque)
{
    struct tls_instance *instance = opaque;

    if (!instance)
        return;
    while (instance->listeners)
        tls_listener_close(instance->listeners);
    while (instance->connections) {
        tls_shutdown(instance->connections);
        tls_close(instance->connections);
    }
    tls_credentials_free(instance->credentials);
    tls_tickets_free(instance->tickets);
    tls_vault_release(&instance->vault);
    pthread_mutex_destroy(&instance->lock);
    free(instance);
}

static int tls_create(const struct drafter_context *context, const void *config, void **ret_instance,
                      struct drafter_error *err)
{
    struct tls_instance *instance;
    int rc;

    if (sodium_init() < 0)
        return drafter_error_set(err, EIO, "tls: libsodium finds no source of random numbers");
    instance = calloc(1, sizeof(*instance));
    if (!instance)
        return drafter_error_set(err, ENOMEM, "tls: out of memory");
    pthread_mutex_init(&instance->lock, NULL);
    tls_vault_init(&instance->vault);
    instance->config = config;
    instance->next = drafter_next_transport(context->next, &instance->next_instance);
    instance->credentials = tls_credentials_new();
    instance->tickets = instance->config->resumption ? tls_tickets_new() : NULL;
    instance->context = (struct tls_context){.credentials = instance->credentials,
                                             .tickets = instance->tickets,
                                             .require_client = instance->config->require_client,
                                             .trusted = drafter_trust_find,
                                             .now = tls_now};
    if (!instance->next)
        rc = drafter_error_set(err, EINVAL, "tls: name the transport that it lies over: next = ID");
    else if (!instance->credentials || (instance->config->resumption && !instance->tickets))
        rc = drafter_error_set(err, ENOMEM, "tls: out of locked memory (ulimit -l)");
    else
        rc = tls_load(instance->config, instance->credentials, &instance->psk, err);
    if (rc) {
        tls_destroy(instance);
        return rc;
    }
    tls_vault_lock(&instance->vault, instance->credentials, sizeof(*instance->credentials));
    if (instance->tickets)
        tls_vault_lock(&instance->vault, instance->tickets, tls_tickets_size());
    *ret_instance = instance;
    return 0;
}

/* The handshake of a connection that is made. */
static int tls_greet(struct tls_connection *connection, uint64_t deadline, struct drafter_error *err)
{
    struct tls_instance *instance = connection->instance;
    struct tls_session *session = sodium_malloc(sizeof(*session));
    struct tls_handshake *handshake = malloc(sizeof(*handshake));
    bool resume = session && handshake && instance->tickets &&
                  tls_session_find(instance->tickets, connection->address, tls_now(), session);
    int rc = -ENOMEM;

    if (handshake)
        handshake->in = handshake->out = NULL;
    if (session && handshake && !tls_connection_reserve(connection)) {
        tls_handshake_client(handshake, &instance->context, connection->secrets,
                             resume ? session : NULL, instance->psk);
        rc = tls_drive(connection, handshake, deadline);
    }
    sodium_free(session);
    if (!rc) {
        tls_connection_settle(connection, handshake);
    } else {
        if (resume) /* perhaps it was the ticket's fault */
            tls_session_forget(instance->tickets, connection->address);
        drafter_error_set(err, -rc, "%s: %s", connection->address,
                          rc == -ENOMEM ? "out of memory" : handshake->reason);
    }
    if (handshake) {
        sodium_memzero(&handshake->transcript, sizeof(handshake->transcript));
        tls_handshake_release(handshake);
    }
    free(handshake);
    return rc;
}

static int tls_connect(void *opaque, const char *address, unsigned timeout_ms, void **ret_connection,
                       struct drafter_error *err)
{
    struct tls_instance *instance = opaque;
    uint64_t begun = drafter_now_ns(), deadline;
    struct tls_connection *connection;
    void *below;
    int rc;

    if (!instance->psk && !instance->credentials->has_key)
        return drafter_error_set(err, EINVAL, "tls: to connect, name a key or a psk-identity");
    rc = instance->next->connect(instance->next_instance, address, timeout_ms, &below, err);
    if (rc)
        return rc;
    connection = tls_connection_new(instance, below);
    if (!connection)
        return drafter_error_set(err, ENOMEM, "%s: out of memory", address);
    snprintf(connection->address, sizeof(connection->address), "%s", address);
    /* From now on: a slow way to the peer is none of its handshake. */
    deadline = drafter_now_ns() + instance->config->handshake_timeout;
    if (timeout_ms && begun + timeout_ms * UINT64_C(1000000) < deadline)
        deadline = begun + timeout_ms * UINT64_C(1000000);
    rc = tls_greet(connection, deadline, err);
    if (rc) {
        connection->closed = true; /* what there was to say was said */
        tls_close(connection);
        return rc;
    }
    *ret_connection = connection;
    return 0;
}

static bool tls_leaves_host(void *opaque, const char *address, bool listening)
{
    struct tls_instance *instance = opaque;

    return instance->next->leaves_host(instance->next_instance, address, listening);
}

static bool tls_admits_unknown(void *opaque)
{
    struct tls_instance *instance = opaque;

    return !instance->config->require_client;
}

static const struct drafter_transport_ops tls_ops = {
    .connect = tls_connect,
    .listen = tls_listen,
    .accept = tls_accept,
    .listener_address = tls_listener_address,
    .listener_shutdown = tls_listener_shutdown,
    .listener_close = tls_listener_close,
    .readv = tls_readv,
    .writev = tls_writev,
    .set_timeout = tls_set_timeout,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .peer_name = tls_peer_name,
    .unsent = tls_unsent,
    .peer_identity = tls_peer_identity,
    .leaves_host = tls_leaves_host,
    .admits_unknown = tls_admits_unknown,
};

static const struct drafter_plugin tls_plugin = {
    DRAFTER_PLUGIN_HEADER(DRAFTER_KIND_TRANSPORT, struct drafter_transport_ops),
    .thread_model = DRAFTER_THREADS_PARALLEL,
    .name = "tls",
    .version = "0.1.0",
    .license = "BSD-2-Clause",
    .summary = "TLS 1.3 over another transport: encrypted, and both sides proven",
    .options = tls_options,
    .config_size = sizeof(struct tls_config),
    .create = tls_create,
    .destroy = tls_destroy,
    .probe = tls_probe,
    .ops = &tls_ops,
};
DRAFTER_PLUGIN_ENTRY(tls_plugin)
