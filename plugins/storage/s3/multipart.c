/* SPDX-License-Identifier: BSD-2-Clause */
#include "multipart.h"

#include "util/cleanup.h"
#include "xml.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 10000u
#define PART_MAX (UINT64_C(5) << 30)
#define ROUND (UINT64_C(1) << 20)
#define IN_FLIGHT 4u /* parts that are in memory beside the one that is written */
#define ID_MAX 600   /* of an upload, as the server gives it */
#define QUERY_MAX (3 * ID_MAX + 64)
#define ANSWER_MAX 65536
#define LIST_MAX ((size_t)4 << 20)

struct part {
    struct pool_job job;
    struct multipart *upload;
    unsigned number; /* from 1 */
    size_t length;
    uint8_t data[];
};

struct multipart {
    struct multipart_settings settings;
    uint64_t part_size;
    unsigned count;     /* parts; 1: in one request, which is no multipart upload */
    char id[QUERY_MAX]; /* encoded; empty: there is none */
    char tag[33];       /* random: by it an object of ours is known when the answer was lost */
    bool finished;

    pthread_mutex_t lock; /* not held while something is sent, but for finish */
    pthread_cond_t sent;
    uint64_t written;     /* the rest under `lock` */
    struct part *current; /* being filled */
    char (*etags)[HTTP_ETAG_MAX];
    unsigned sending;
    int error; /* the first, which stays */
};

/* ---- requests --------------------------------------------------------------------------------- */

static int fail(const struct multipart *upload, int rc, const struct http_response *response,
                const char *what, struct drafter_error *err)
{
    return drafter_error_set(err, -rc, "s3: object %s in bucket %s: %s: %s%s%s", upload->settings.object,
                             upload->settings.bucket, what, response->code, *response->code ? ": " : "",
                             response->message);
}

/* Is the object the one that this upload makes?  -EEXIST: it is another, -ENOENT: there is none. */
static int look(const struct multipart *upload, struct http_response *response)
{
    struct http_request request = {.method = "HEAD", .path = upload->settings.path, .limit = ANSWER_MAX};
    int rc = http_send(upload->settings.http, &request, response);

    if (!rc && strcmp(response->tag, upload->tag) != 0)
        rc = -EEXIST;
    http_response_release(response);
    return rc;
}

static int refuse(const struct multipart *upload, struct drafter_error *err)
{
    return drafter_error_set(err, EEXIST,
                             "s3: object %s in bucket %s: it exists; who reads it would be cut off: choose "
                             "another name, or set replace = yes",
                             upload->settings.object, upload->settings.bucket);
}

static int abort_upload(const struct multipart *upload, const char *id)
{
    char query[QUERY_MAX + 16];
    struct http_request request = {.method = "DELETE", .path = upload->settings.path, .query = query,
                                   .limit = ANSWER_MAX};
    struct http_response response;
    int rc;

    snprintf(query, sizeof query, "uploadId=%s", id);
    rc = http_send(upload->settings.http, &request, &response);
    http_response_release(&response);
    return rc == -ENOENT ? 0 : rc;
}

/* Other uploads of the object: of a process that was killed, or of our own requests whose answers were lost. */
static void abort_others(const struct multipart *upload, const struct http_response *list)
{
    const char *at = list->body, *end = list->body + list->length;
    char key[1100], id[ID_MAX], encoded[QUERY_MAX];
    unsigned aborted = 0;

    while (at && xml_find(at, (size_t)(end - at), "Key", key, sizeof key, &at) &&
           xml_find(at, (size_t)(end - at), "UploadId", id, sizeof id, &at))
        if (strcmp(key, upload->settings.object) == 0 && !sign_encode(id, 0, encoded, sizeof encoded) &&
            strcmp(encoded, upload->id) != 0)
            aborted += abort_upload(upload, encoded) == 0;
    if (aborted)
        drafter_log(DRAFTER_LOG_INFO, "s3", "%s: %u uploads ended that were not complete",
                    upload->settings.path, aborted);
}

static void sweep(const struct multipart *upload)
{
    char bucket[200], prefix[3 * 1024 + 1], query[sizeof prefix + 32];
    struct http_request request = {.method = "GET", .path = bucket, .query = query, .limit = LIST_MAX};
    struct http_response response = {0};
    int rc = sign_encode(upload->settings.object, 0, prefix, sizeof prefix);

    snprintf(bucket, sizeof bucket, "/%s", upload->settings.bucket);
    snprintf(query, sizeof query, "prefix=%s&uploads=", prefix);
    if (!rc)
        rc = http_send(upload->settings.http, &request, &response);
    if (!rc && response.body)
        abort_others(upload, &response);
    if (rc)
        drafter_log(DRAFTER_LOG_INFO, "s3", "%s: whether earlier uploads left something is not known: %s",
                    upload->settings.path, response.message);
    http_response_release(&response);
}

static int create(struct multipart *upload, struct drafter_error *err)
{
    struct http_request request = {.method = "POST", .path = upload->settings.path, .query = "uploads=",
                                   .tag = upload->tag, .limit = ANSWER_MAX};
    struct http_response response;
    char id[ID_MAX];
    int rc = http_send(upload->settings.http, &request, &response);

    if (rc)
        fail(upload, rc, &response, "an upload cannot be begun", err);
    else if (!response.body || !xml_text(response.body, response.length, "UploadId", id, sizeof id) ||
             !*id || sign_encode(id, 0, upload->id, sizeof upload->id))
        rc = drafter_error_set(err, EPROTO, "s3: object %s: the server names no upload",
                               upload->settings.object);
    http_response_release(&response);
    if (!rc)
        sweep(upload);
    return rc;
}

static int send_part(struct multipart *upload, const struct part *part)
{
    char query[QUERY_MAX + 64];
    struct http_request request = {.method = "PUT", .path = upload->settings.path, .query = query,
                                   .body = part->data, .length = part->length, .limit = ANSWER_MAX};
    struct http_response response;
    struct drafter_error err = {0};
    int rc;

    snprintf(query, sizeof query, "partNumber=%u&uploadId=%s", part->number, upload->id);
    rc = http_send(upload->settings.http, &request, &response);
    if (!rc && !*response.etag)
        rc = -EPROTO;
    if (!rc)
        memcpy(upload->etags[part->number - 1], response.etag, HTTP_ETAG_MAX); /* nobody else's */
    http_response_release(&response);
    if (rc && rc != -ECANCELED) { /* which is give_up() */
        fail(upload, rc, &response, "a part cannot be sent", &err);
        drafter_log(DRAFTER_LOG_ERROR, "s3", "%s", err.message);
    }
    return rc;
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void send_job(struct pool_job *job)
{
    struct part *part = (struct part *)job;
    struct multipart *upload = part->upload;
    int rc = send_part(upload, part);

    free(part);
    lock_scope(&upload->lock);
    upload->sending--;
    if (rc && !upload->error)
        upload->error = rc;
    pthread_cond_broadcast(&upload->sent);
}

/* Under the lock. */
static int need_part(struct multipart *upload)
{
    unsigned most = upload->settings.connections < IN_FLIGHT ? upload->settings.connections : IN_FLIGHT;

    while (upload->sending >= most && !upload->error)
        pthread_cond_wait(&upload->sent, &upload->lock);
    if (upload->error)
        return upload->error;
    upload->current = malloc(sizeof *upload->current + upload->part_size);
    if (!upload->current)
        return -ENOMEM;
    upload->current->job = (struct pool_job){.run = send_job};
    upload->current->upload = upload;
    upload->current->number = (unsigned)(upload->written / upload->part_size) + 1;
    upload->current->length = 0;
    return 0;
}

/* Under the lock.  What is sent in one request waits for finish. */
static void queue_part(struct multipart *upload)
{
    if (upload->count == 1)
        return;
    upload->sending++;
    pool_queue(upload->settings.pool, &upload->current->job);
    upload->current = NULL;
}

/* Under the lock: as much as fits into a part. */
static int write_some(struct multipart *upload, const void *buffer, size_t length, size_t *ret_written)
{
    int rc = upload->current ? upload->error : need_part(upload);
    struct part *part = upload->current;
    size_t n;

    if (rc)
        return rc;
    n = upload->part_size - part->length < length ? upload->part_size - part->length : length;
    if (buffer)
        memcpy(part->data + part->length, buffer, n);
    else
        memset(part->data + part->length, 0, n);
    part->length += n;
    upload->written += n;
    if (part->length == upload->part_size || upload->written == upload->settings.size)
        queue_part(upload);
    *ret_written = n;
    return 0;
}

int multipart_write(struct multipart *upload, const void *buffer, size_t length, uint64_t offset)
{
    size_t n;
    int rc = 0;

    lock_scope(&upload->lock);
    if (offset != upload->written || length > upload->settings.size - offset)
        return -ESPIPE;
    for (; !rc && length > 0; length -= n) {
        rc = write_some(upload, buffer, length, &n);
        if (rc)
            return rc;
        buffer = buffer ? (const char *)buffer + n : NULL;
    }
    return rc;
}

/* ---- life ------------------------------------------------------------------------------------- */

static int divide(struct multipart *upload, struct drafter_error *err)
{
    uint64_t size = upload->settings.size, part = upload->settings.part_size;
    uint64_t least = (size + PARTS_MAX - 1) / PARTS_MAX;

    if (part < least)
        part = (least + ROUND - 1) / ROUND * ROUND;
    if (size == 0 || part > PART_MAX)
        return drafter_error_set(err, size ? EFBIG : EINVAL, "s3: object %s: %" PRIu64 " bytes cannot be sent",
                                 upload->settings.object, size);
    upload->part_size = part < size ? part : size;
    upload->count = (unsigned)((size + part - 1) / part);
    upload->etags = calloc(upload->count, sizeof *upload->etags);
    return upload->etags ? 0 : drafter_error_set(err, ENOMEM, "s3: no memory");
}

static int check_free(const struct multipart *upload, struct drafter_error *err)
{
    struct http_response response = {0};
    int rc = look(upload, &response);

    if (rc == -ENOENT || (rc == -EEXIST && upload->settings.replace))
        return 0;
    return rc == -EEXIST ? refuse(upload, err)
                         : fail(upload, rc, &response, "whether it exists is not known", err);
}

int multipart_begin(const struct multipart_settings *settings, struct multipart **ret_upload,
                    struct drafter_error *err)
{
    struct multipart *upload = calloc(1, sizeof *upload);
    uint8_t random[sizeof upload->tag / 2];
    int rc;

    if (!upload)
        return drafter_error_set(err, ENOMEM, "s3: no memory");
    upload->settings = *settings;
    pthread_mutex_init(&upload->lock, NULL);
    pthread_cond_init(&upload->sent, NULL);
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(upload->tag, sizeof upload->tag, random, sizeof random);
    rc = divide(upload, err);
    if (!rc)
        rc = check_free(upload, err);
    if (!rc && upload->count > 1)
        rc = create(upload, err);
    if (rc)
        multipart_free(upload);
    else
        *ret_upload = upload;
    return rc;
}

/* The list of the parts, which completes the upload. */
static char *list_parts(const struct multipart *upload, size_t *ret_length)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, ret_length);

    if (!stream)
        return NULL;
    fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", stream);
    for (unsigned i = 0; i < upload->count; i++)
        fprintf(stream, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1, upload->etags[i]);
    fputs("</CompleteMultipartUpload>", stream);
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}

static int make_object(struct multipart *upload, bool conditional, struct http_response *response)
{
    struct http_request request = {.method = "PUT", .path = upload->settings.path, .tag = upload->tag,
                                   .if_absent = conditional, .limit = ANSWER_MAX};
    cleanup_free char *parts = NULL;
    char query[QUERY_MAX + 16];

    if (upload->count == 1) {
        request.body = upload->current->data;
        request.length = upload->current->length;
    } else {
        snprintf(query, sizeof query, "uploadId=%s", upload->id);
        parts = list_parts(upload, &request.length);
        if (!parts)
            return -ENOMEM;
        request.method = "POST";
        request.query = query;
        request.body = parts;
        request.tag = NULL; /* it is the upload's */
    }
    http_response_release(response);
    return http_send(upload->settings.http, &request, response);
}

/* What the server did counts, not what it said: an answer may be lost, and the next try finds our own object. */
static int settle(struct multipart *upload, int rc, const struct http_response *response,
                  struct drafter_error *err)
{
    struct http_response found = {0};
    int there = look(upload, &found);

    if (there == 0)
        return 0;
    if (there == -EEXIST && rc == -ESTALE)
        return refuse(upload, err);
    if (rc == -ENOENT && upload->count > 1)
        return drafter_error_set(err, ESTALE, "s3: object %s in bucket %s: another upload of it was begun",
                                 upload->settings.object, upload->settings.bucket);
    return fail(upload, rc, response, "it cannot be made", err);
}

static int wait_sent(struct multipart *upload, struct drafter_error *err)
{
    lock_scope(&upload->lock);
    while (upload->sending > 0)
        pthread_cond_wait(&upload->sent, &upload->lock);
    if (upload->error)
        return drafter_error_errno(err, -upload->error, "s3: object %s in bucket %s: a part was not sent",
                                   upload->settings.object, upload->settings.bucket);
    if (upload->written == upload->settings.size)
        return 0;
    return drafter_error_set(err, ENODATA, "s3: object %s in bucket %s: %" PRIu64 " bytes of %" PRIu64
                             " were written; it is made of all of them, or not at all",
                             upload->settings.object, upload->settings.bucket, upload->written,
                             upload->settings.size);
}

int multipart_finish(struct multipart *upload, struct drafter_error *err)
{
    struct http_response response = {0};
    int rc = wait_sent(upload, err);

    if (!rc && upload->count > 1) /* some servers do not look at the condition here, such as radosgw (Ceph 16) */
        rc = check_free(upload, err);
    if (rc)
        return rc;
    rc = make_object(upload, !upload->settings.replace, &response);
    if (rc == -ENOSYS && !upload->settings.replace) /* it knows no conditions: we have looked, at least */
        rc = make_object(upload, false, &response);
    if (rc)
        rc = settle(upload, rc, &response, err);
    http_response_release(&response);
    upload->finished = rc == 0;
    return rc;
}

/* No part may be on its way: one that arrives after the upload was ended would stay. */
static void give_up(struct multipart *upload)
{
    http_set_deadline(upload->settings.http, drafter_now_ns());
    pthread_mutex_lock(&upload->lock);
    while (upload->sending > 0)
        pthread_cond_wait(&upload->sent, &upload->lock);
    pthread_mutex_unlock(&upload->lock);
    http_set_deadline(upload->settings.http, drafter_now_ns() + upload->settings.drain_ns);
    if (abort_upload(upload, upload->id))
        drafter_log(DRAFTER_LOG_WARNING, "s3",
                    "%s: parts of it may be left in the bucket; the next upload of it ends that",
                    upload->settings.path);
}

void multipart_free(struct multipart *upload)
{
    if (!upload)
        return;
    if (!upload->finished && *upload->id)
        give_up(upload);
    pthread_mutex_destroy(&upload->lock);
    pthread_cond_destroy(&upload->sent);
    free(upload->current);
    free(upload->etags);
    free(upload);
}
