/* SPDX-License-Identifier: BSD-2-Clause */
#include "metrics/metrics.h"

#include "role/port.h"
#include "util/cleanup.h"
#include "util/late.h"
#include "util/log.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <string.h>

#define CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define CONNECTIONS_MAX 16
#define TIMEOUT_S 10

struct metrics_text {
    FILE *stream;
    const char *family;
};

/* What is used of libmicrohttpd, which brings GnuTLS with it: only a node that is asked for metrics loads it. */
#define MHD_CALLS(CALL)                                                                            \
    CALL(add_response_header)                                                                      \
    CALL(create_response_from_buffer)                                                              \
    CALL(destroy_response)                                                                         \
    CALL(queue_response)                                                                           \
    CALL(start_daemon)                                                                             \
    CALL(stop_daemon)

static struct {
#define MHD_MEMBER(name) __typeof__(MHD_##name) *name;
    MHD_CALLS(MHD_MEMBER)
#undef MHD_MEMBER
} mhd;

struct metrics {
    struct MHD_Daemon *daemon;
    void (*collect)(void *opaque, struct metrics_text *text);
    void *opaque;
};

/* ---- the format */

void metrics_family(struct metrics_text *text, const char *name, const char *help)
{
    text->family = name;
    fprintf(text->stream, "# TYPE %s gauge\n# HELP %s %s\n", name, name, help);
}

static void put_value(FILE *stream, const char *value)
{
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            fputc('\\', stream);
        fputc(*value == '\n' ? ' ' : *value, stream);
    }
}

void metrics_sample(struct metrics_text *text, const char *const *labels, double value)
{
    fprintf(text->stream, "%s{", text->family);
    for (size_t i = 0; labels[i]; i += 2) {
        fprintf(text->stream, "%s%s=\"", i ? "," : "", labels[i]);
        put_value(text->stream, labels[i + 1]);
        fputc('"', text->stream);
    }
    fprintf(text->stream, "} %.15g\n", value);
}

/* ---- the server */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              void *body, size_t length)
{
    struct MHD_Response *response =
        mhd.create_response_from_buffer(length, body, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_NO;

    if (response) {
        mhd.add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        result = mhd.queue_response(connection, status, response);
        mhd.destroy_response(response);
    }
    return result;
}

static enum MHD_Result answer_metrics(struct metrics *metrics, struct MHD_Connection *connection)
{
    cleanup_free char *body = NULL;
    size_t length = 0;
    struct metrics_text text = {.stream = open_memstream(&body, &length)};

    if (!text.stream)
        return MHD_NO;
    metrics->collect(metrics->opaque, &text);
    fputs("# EOF\n", text.stream);
    if (fclose(text.stream))
        return MHD_NO;
    return answer(connection, MHD_HTTP_OK, CONTENT_TYPE, body, length);
}

static enum MHD_Result handle(void *opaque, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **state)
{
    static char elsewhere[] = "the figures are at /metrics\n", no_method[] = "GET only\n";

    (void)version;
    (void)upload;
    (void)state;
    if (*upload_size || strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", no_method,
                      strlen(no_method));
    if (strcmp(url, "/metrics") != 0)
        return answer(connection, MHD_HTTP_NOT_FOUND, "text/plain", elsewhere, strlen(elsewhere));
    return answer_metrics(opaque, connection);
}

static socklen_t make_address(const char *host, uint16_t port, struct sockaddr_storage *storage)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;

    memset(storage, 0, sizeof(*storage));
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof(*v4);
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 ? sizeof(*v6) : 0;
}

/* What the library would print by itself. */
static void note_fault(void *opaque, const char *format, va_list arguments)
{
    char message[256];

    (void)opaque;
    vsnprintf(message, sizeof(message), format, arguments);
    message[strcspn(message, "\n")] = '\0';
    log_debug("metrics", "%s", message);
}

/* A node starts its one server before it has other threads that could. */
static int load(struct drafter_error *err)
{
    static const struct late_symbol symbols[] = {
#define MHD_SYMBOL(name) {"MHD_" #name, &mhd.name},
        MHD_CALLS(MHD_SYMBOL)
#undef MHD_SYMBOL
    };

    return late_load(MICROHTTPD_SONAME, symbols, sizeof(symbols) / sizeof(symbols[0]), err);
}

int metrics_start(const char *address, void (*collect)(void *opaque, struct metrics_text *text),
                  void *opaque, struct metrics **ret_metrics, struct drafter_error *err)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    struct sockaddr_storage storage;
    char host[64];
    uint16_t port;
    int rc = metrics ? port_parse(address, host, sizeof(host), &port, err)
                     : drafter_error_set(err, ENOMEM, "out of memory");

    if (!rc && !make_address(host, port, &storage))
        rc = drafter_error_set(err, EINVAL, "%s is no address", address);
    if (!rc)
        rc = load(err);
    if (!rc) {
        metrics->collect = collect;
        metrics->opaque = opaque;
        metrics->daemon = mhd.start_daemon(
            MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG |
                (storage.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0u),
            port, NULL, NULL, handle, metrics, MHD_OPTION_EXTERNAL_LOGGER, note_fault, NULL,
            MHD_OPTION_SOCK_ADDR, &storage, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S, MHD_OPTION_END);
        if (!metrics->daemon)
            rc = drafter_error_errno(err, errno ? errno : EADDRINUSE, "metrics at %s", address);
    }
    if (rc) {
        free(metrics);
        return rc;
    }
    log_event("metrics", "\"address\":\"%s\"", address);
    *ret_metrics = metrics;
    return 0;
}

void metrics_stop(struct metrics *metrics)
{
    if (metrics)
        mhd.stop_daemon(metrics->daemon);
    free(metrics);
}
