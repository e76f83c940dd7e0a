/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Requests to one S3 service: signing, connections that are kept, retries with back-off.  Any thread;
 * as many requests run at a time as there are connections, others wait for one.
 */
#ifndef S3_HTTP_H
#define S3_HTTP_H

#include "sign.h"
#include <drafter/common.h>
#include <stdatomic.h>

#define HTTP_ETAG_MAX 128
#define HTTP_TAG_MAX 64

struct http;

struct http_settings {
    const char *endpoint; /* "https://host[:port]"; borrowed for the life of the object */
    const char *region;   /* borrowed */
    const char *ca_file;  /* borrowed; NULL: the system's */
    const struct sign_credentials *credentials; /* borrowed */
    unsigned connections;
    uint64_t timeout_ns; /* for a request with all its retries */
};

struct http_request {
    const char *method;
    const char *path;  /* encoded */
    const char *query; /* encoded, sorted; NULL: none */
    const void *body;  /* NULL: none */
    size_t length;
    bool ranged; /* only bytes `first` to `last`, both included */
    uint64_t first, last;
    const char *if_match;      /* an ETag, or NULL */
    bool if_absent;            /* If-None-Match: * */
    const char *tag;           /* kept with the object that is made, or NULL; letters and digits */
    size_t limit;              /* longest body of an answer that is accepted */
};

struct http_response {
    long status;  /* 0: no answer at all */
    char *body;   /* the caller frees it; NUL-terminated beyond its length */
    size_t length;
    uint64_t total; /* of the whole object, where the answer says so */
    char etag[HTTP_ETAG_MAX];
    char tag[HTTP_TAG_MAX]; /* of the object, if it has one */
    char code[64];     /* of an S3 error ("NoSuchKey"), else empty */
    char message[256]; /* why it failed, for people */
};

int http_new(const struct http_settings *settings, struct http **ret_http, struct drafter_error *err);
void http_free(struct http *http);

/*
 * Sends a request until it succeeds, fails for good or the time is up.  Returns 0 with an answer of 2xx;
 * else a negative errno and *response says why: -ENOENT (404), -EACCES (401, 403), -ESTALE (409, 412: a
 * condition did not hold), -ENOSYS (501), -EPROTO (an answer that makes no sense), -ETIMEDOUT, -ECANCELED
 * (http_cancel), -EIO (all others).
 */
int http_send(struct http *http, const struct http_request *request, struct http_response *response);

/* From here on all requests end by then (drafter_now_ns). */
void http_set_deadline(struct http *http, uint64_t until);

/* All requests, present and future, end with -ECANCELED.  For the end of an instance. */
void http_cancel(struct http *http);

void http_response_release(struct http_response *response);

#endif
