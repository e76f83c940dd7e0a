/* SPDX-License-Identifier: BSD-2-Clause */
#include "http.h"

#include "util/cleanup.h"
#include "xml.h"
#include <curl/curl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define CONNECT_TIMEOUT_S 10L
#define STALL_S 20L /* without a byte */
#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 5000

struct http {
    struct http_settings settings;
    char host[300]; /* as curl writes the Host header */
    pthread_mutex_t lock;
    pthread_cond_t idle_again, cancel;
    CURL **idle; /* under `lock`: connections that nobody uses */
    unsigned idle_count;
    atomic_bool cancelled;
    _Atomic uint64_t deadline; /* 0: none */
};

/* One attempt at a request. */
struct attempt {
    struct http *http;
    const struct http_request *request;
    struct http_response *response;
    CURL *curl;
    struct curl_slist *headers;
    bool too_long;
};

static int parse_host(struct http *http, struct drafter_error *err)
{
    const char *endpoint = http->settings.endpoint;
    bool https = strncmp(endpoint, "https://", 8) == 0;
    const char *host = strstr(endpoint, "://");
    const char *port;
    size_t length;

    if (!https && strncmp(endpoint, "http://", 7) != 0)
        return drafter_error_set(err, EINVAL, "s3: endpoint \"%s\" begins with neither https:// nor http://",
                                 endpoint);
    host += 3;
    length = strcspn(host, "/?#@");
    if (length == 0 || length >= sizeof http->host || host[length] != '\0')
        return drafter_error_set(err, EINVAL, "s3: endpoint \"%s\" is not https://HOST[:PORT]", endpoint);
    memcpy(http->host, host, length + 1);
    port = strrchr(http->host, ':');
    if (port && strcmp(port, https ? ":443" : ":80") == 0)
        http->host[port - http->host] = '\0'; /* clients leave the default out, so servers sign without */
    return 0;
}

/* A clock that is set meanwhile must neither shorten nor prolong a wait. */
static void init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

int http_new(const struct http_settings *settings, struct http **ret_http, struct drafter_error *err)
{
    struct http *http = calloc(1, sizeof *http);
    int rc;

    if (!http)
        return drafter_error_set(err, ENOMEM, "s3: no memory");
    http->settings = *settings;
    pthread_mutex_init(&http->lock, NULL);
    pthread_cond_init(&http->idle_again, NULL);
    init_monotonic(&http->cancel);
    rc = parse_host(http, err);
    if (!rc && !(http->idle = calloc(settings->connections, sizeof *http->idle)))
        rc = drafter_error_set(err, ENOMEM, "s3: no memory");
    for (; !rc && http->idle_count < settings->connections; http->idle_count++)
        if (!(http->idle[http->idle_count] = curl_easy_init()))
            rc = drafter_error_set(err, ENOMEM, "s3: libcurl cannot be initialised");
    if (rc)
        http_free(http);
    else
        *ret_http = http;
    return rc;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (http->idle_count > 0)
        curl_easy_cleanup(http->idle[--http->idle_count]);
    free(http->idle);
    pthread_mutex_destroy(&http->lock);
    pthread_cond_destroy(&http->idle_again);
    pthread_cond_destroy(&http->cancel);
    free(http);
}

void http_set_deadline(struct http *http, uint64_t until)
{
    atomic_store(&http->deadline, until);
}

void http_cancel(struct http *http)
{
    lock_scope(&http->lock);
    atomic_store(&http->cancelled, true);
    pthread_cond_broadcast(&http->cancel);
}

static CURL *take_connection(struct http *http)
{
    lock_scope(&http->lock);
    while (http->idle_count == 0)
        pthread_cond_wait(&http->idle_again, &http->lock);
    return http->idle[--http->idle_count];
}

static void give_connection(struct http *http, CURL *curl)
{
    lock_scope(&http->lock);
    http->idle[http->idle_count++] = curl;
    pthread_cond_signal(&http->idle_again);
}

/* ---- what curl calls -------------------------------------------------------------------------- */

static size_t receive(char *data, size_t size, size_t count, void *opaque)
{
    struct attempt *attempt = opaque;
    struct http_response *response = attempt->response;
    size_t length = size * count;
    char *body;

    if (length > attempt->request->limit - response->length) {
        attempt->too_long = true;
        return 0;
    }
    body = realloc(response->body, response->length + length + 1);
    if (!body)
        return 0;
    memcpy(body + response->length, data, length);
    response->body = body;
    response->length += length;
    body[response->length] = '\0';
    return length;
}

/* The value of a header line when it has this name, else NULL. */
static const char *header_value(const char *line, size_t length, const char *name, size_t *ret_length)
{
    size_t skip = strlen(name);

    if (length <= skip || strncasecmp(line, name, skip) != 0 || line[skip] != ':')
        return NULL;
    for (line += skip + 1, length -= skip + 1; length > 0 && (*line == ' ' || *line == '\t');
         line++, length--)
        ;
    while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == '\n'))
        length--;
    *ret_length = length;
    return line;
}

static uint64_t parse_total(const char *text, size_t length)
{
    char number[24];

    snprintf(number, sizeof number, "%.*s", length < 20 ? (int)length : 20, text);
    return strtoull(number, NULL, 10);
}

static size_t receive_header(char *line, size_t size, size_t count, void *opaque)
{
    struct attempt *attempt = opaque;
    struct http_response *response = attempt->response;
    size_t length = size * count, n;
    const char *value = header_value(line, length, "etag", &n);

    if (value && n < sizeof response->etag)
        snprintf(response->etag, sizeof response->etag, "%.*s", (int)n, value);
    if ((value = header_value(line, length, "x-amz-meta-drafter", &n)) && n < sizeof response->tag)
        snprintf(response->tag, sizeof response->tag, "%.*s", (int)n, value);
    if ((value = header_value(line, length, "content-range", &n))) {
        const char *slash = memchr(value, '/', n);

        if (slash)
            response->total = parse_total(slash + 1, n - (size_t)(slash + 1 - value));
    } else if ((value = header_value(line, length, "content-length", &n)) && response->total == 0) {
        response->total = parse_total(value, n);
    }
    return length;
}

static int progress(void *opaque, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct http *http = opaque;

    uint64_t deadline = atomic_load(&http->deadline);

    (void)a, (void)b, (void)c, (void)d;
    return atomic_load(&http->cancelled) || (deadline && drafter_now_ns() >= deadline);
}

struct upload {
    const char *data;
    size_t left;
};

static size_t send_body(char *buffer, size_t size, size_t count, void *opaque)
{
    struct upload *upload = opaque;
    size_t n = size * count < upload->left ? size * count : upload->left;

    memcpy(buffer, upload->data, n);
    upload->data += n;
    upload->left -= n;
    return n;
}

/* ---- one attempt ------------------------------------------------------------------------------ */

static int add_header(struct attempt *attempt, const char *format, ...) DRAFTER_PRINTF(2, 3);

static int add_header(struct attempt *attempt, const char *format, ...)
{
    char line[sizeof((struct sign_credentials *)0)->session_token + 64];
    struct curl_slist *longer;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    longer = n < 0 || (size_t)n >= sizeof line ? NULL : curl_slist_append(attempt->headers, line);
    sodium_memzero(line, sizeof line);
    if (!longer)
        return -ENOMEM;
    attempt->headers = longer;
    return 0;
}

static int sign(struct attempt *attempt)
{
    const struct http_request *request = attempt->request;
    const struct http *http = attempt->http;
    const struct sign_credentials *credentials = http->settings.credentials;
    char hash[SIGN_HASH_TEXT], date[17], authorization[1024];
    struct sign_request wanted = {.method = request->method, .host = http->host, .path = request->path,
                                  .query = request->query ? request->query : "", .payload_hash = hash,
                                  .region = http->settings.region, .when = time(NULL),
                                  .tag = request->tag};
    int rc;

    sign_hash(request->body, request->body ? request->length : 0, hash);
    sign_date(wanted.when, date);
    rc = sign_authorize(&wanted, credentials, authorization, sizeof authorization);
    if (!rc)
        rc = add_header(attempt, "Authorization: %s", authorization);
    if (!rc)
        rc = add_header(attempt, "x-amz-content-sha256: %s", hash);
    if (!rc)
        rc = add_header(attempt, "x-amz-date: %s", date);
    if (!rc && request->tag)
        rc = add_header(attempt, "x-amz-meta-drafter: %s", request->tag);
    if (!rc && *credentials->session_token)
        rc = add_header(attempt, "x-amz-security-token: %s", credentials->session_token);
    return rc;
}

static int make_headers(struct attempt *attempt)
{
    const struct http_request *request = attempt->request;
    int rc = sign(attempt);

    if (!rc && request->ranged)
        rc = add_header(attempt, "Range: bytes=%" PRIu64 "-%" PRIu64, request->first, request->last);
    if (!rc && request->if_match)
        rc = add_header(attempt, "If-Match: %s", request->if_match);
    if (!rc && request->if_absent)
        rc = add_header(attempt, "If-None-Match: *");
    if (!rc)
        rc = add_header(attempt, "Expect:"); /* one round trip less */
    if (!rc)
        rc = add_header(attempt, "Content-Type:");
    return rc;
}

static void set_method(struct attempt *attempt, struct upload *upload)
{
    const struct http_request *request = attempt->request;
    CURL *curl = attempt->curl;

    if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, send_body);
        curl_easy_setopt(curl, CURLOPT_READDATA, upload);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)upload->left);
    } else if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    if (strcmp(request->method, "PUT") != 0 && strcmp(request->method, "HEAD") != 0)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_transfer(struct attempt *attempt, const char *url, char *text, uint64_t left_ms)
{
    const struct http_settings *settings = &attempt->http->settings;
    CURL *curl = attempt->curl;

    curl_easy_reset(curl); /* the connection stays open */
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, attempt->headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, receive_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, attempt->http);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (settings->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca_file);
}

/* What the status means, and for an error what the server said of it. */
static int judge(struct http_response *response, const struct http_request *request)
{
    long status = response->status;

    if (status == 200 && request->ranged)
        return -EPROTO; /* it would send the whole object instead of the part */
    if (response->body && (status / 100 != 2 || strcmp(request->method, "POST") == 0))
        xml_text(response->body, response->length, "Code", response->code, sizeof response->code);
    if (status / 100 == 2 && !*response->code) /* what takes long fails after its status was sent */
        return 0;
    if (!response->body || !xml_text(response->body, response->length, "Message", response->message,
                                     sizeof response->message) || !*response->message)
        snprintf(response->message, sizeof response->message, "HTTP status %ld", status);
    if (status == 404)
        return -ENOENT;
    if (status == 401 || status == 403)
        return -EACCES;
    if (status == 409 || status == 412)
        return -ESTALE;
    return status == 501 ? -ENOSYS : -EIO;
}

static int explain(struct attempt *attempt, CURLcode code, const char *text)
{
    struct http_response *response = attempt->response;

    snprintf(response->message, sizeof response->message, "%s", *text ? text : curl_easy_strerror(code));
    if (attempt->too_long) {
        snprintf(response->message, sizeof response->message, "the answer is longer than %zu bytes",
                 attempt->request->limit);
        return -EPROTO;
    }
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return -ECANCELED;
    return code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO;
}

static int perform(struct attempt *attempt, uint64_t left_ms)
{
    const struct http_request *request = attempt->request;
    struct upload upload = {request->body, request->body ? request->length : 0};
    char url[4600], text[CURL_ERROR_SIZE] = "";
    int n = snprintf(url, sizeof url, "%s%s%s%s", attempt->http->settings.endpoint, request->path,
                     request->query ? "?" : "", request->query ? request->query : "");
    CURLcode code;
    int rc;

    if (n < 0 || (size_t)n >= sizeof url)
        return -ENAMETOOLONG;
    rc = make_headers(attempt);
    if (rc)
        return rc;
    set_transfer(attempt, url, text, left_ms);
    set_method(attempt, &upload);
    code = curl_easy_perform(attempt->curl);
    curl_easy_getinfo(attempt->curl, CURLINFO_RESPONSE_CODE, &attempt->response->status);
    return code == CURLE_OK ? judge(attempt->response, request) : explain(attempt, code, text);
}

static int try_once(struct http *http, const struct http_request *request,
                    struct http_response *response, uint64_t left_ms)
{
    struct attempt attempt = {.http = http, .request = request, .response = response};
    int rc;

    memset(response, 0, sizeof *response);
    if (atomic_load(&http->cancelled))
        return -ECANCELED;
    attempt.curl = take_connection(http);
    rc = perform(&attempt, left_ms);
    give_connection(http, attempt.curl);
    curl_slist_free_all(attempt.headers);
    return rc;
}

/* ---- retries ---------------------------------------------------------------------------------- */

/*
 * Is it worth another try?  Everything the client sends may be repeated: objects are named by their
 * content, and a condition that an unheard success of ours made false is told apart by who asks.
 */
static bool passing(int rc, const struct http_response *response)
{
    if (rc == -ETIMEDOUT)
        return true;
    if (rc == -EACCES) /* a clock that is being set right */
        return false;
    return rc == -EIO && (response->status == 0 || response->status >= 500 || response->status == 429 ||
                          response->status == 408 || response->status / 100 == 2);
}

/* Waits, not longer than there is time and not after a cancellation. */
static void back_off(struct http *http, unsigned attempt, uint64_t until)
{
    uint64_t ms = (uint64_t)BACKOFF_FIRST_MS << (attempt < 8 ? attempt : 8);
    uint64_t now = drafter_now_ns(), left = now < until ? (until - now) / 1000000 : 0;
    struct timespec at;

    ms = ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms;
    ms = ms / 2 + randombytes_uniform((uint32_t)ms / 2 + 1); /* so that clients do not come all at once */
    if (ms > left / 2) /* the last tries come closer together, but never at once */
        ms = left / 2;
    now += ms * 1000000;
    at.tv_sec = (time_t)(now / 1000000000);
    at.tv_nsec = (long)(now % 1000000000);
    lock_scope(&http->lock);
    while (!atomic_load(&http->cancelled) &&
           pthread_cond_timedwait(&http->cancel, &http->lock, &at) != ETIMEDOUT)
        ;
}

int http_send(struct http *http, const struct http_request *request, struct http_response *response)
{
    uint64_t end = drafter_now_ns() + http->settings.timeout_ns;

    memset(response, 0, sizeof *response);
    for (unsigned attempt = 0;; attempt++) {
        uint64_t deadline = atomic_load(&http->deadline), now = drafter_now_ns();
        uint64_t until = deadline && deadline < end ? deadline : end;
        int rc = now >= until ? -ETIMEDOUT
                              : try_once(http, request, response, (until - now) / 1000000 + 1);

        if (rc == 0 || drafter_now_ns() >= until || !passing(rc, response))
            return rc;
        drafter_log(DRAFTER_LOG_DEBUG, "s3", "%s %s: %s; attempt %u failed", request->method,
                    request->path, response->message, attempt + 1);
        back_off(http, attempt, until);
        if (drafter_now_ns() + BACKOFF_FIRST_MS * 1000000ull > until)
            return rc;
        http_response_release(response);
    }
}

void http_response_release(struct http_response *response)
{
    free(response->body);
    response->body = NULL;
    response->length = 0;
}
