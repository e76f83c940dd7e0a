/* SPDX-License-Identifier: BSD-2-Clause */
#include "api.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "vmm/common/socket.h"
#include <ctype.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX ((size_t)64 << 10)

struct answer {
    char text[ANSWER_MAX];
    size_t length;
};

static size_t keep_answer(char *bytes, size_t size, size_t count, void *opaque)
{
    struct answer *answer = opaque;

    size *= count;
    if (size > sizeof(answer->text) - answer->length)
        return 0; /* ends the call */
    memcpy(answer->text + answer->length, bytes, size);
    answer->length += size;
    return size;
}

/* No redirects, no proxies: this is a socket in a directory of ours. */
static void configure(CURL *curl, const char *socket_path)
{
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep_answer);
}

int api_open(struct api *api, const char *directory, const char *name, struct drafter_error *err)
{
    struct sockaddr_un where;
    int result = socket_address(directory, name, &api->directory_fd, &where, err);

    if (result < 0)
        return result;
    api->curl = curl_easy_init();
    if (!api->curl) {
        close(api->directory_fd);
        return drafter_error_set(err, ENOMEM, "libcurl does not start");
    }
    configure(api->curl, where.sun_path);
    return 0;
}

void api_close(struct api *api)
{
    if (!api->curl)
        return;
    curl_easy_cleanup(api->curl);
    close(api->directory_fd);
    *api = (struct api){.curl = NULL};
}

/* What Firecracker says of its refusal, in one printable line. */
static int refused(const struct answer *answer, long status, struct drafter_error *err)
{
    json_t *value = json_loadb(answer->text, answer->length, 0, NULL);
    const char *text = json_string_value(json_object_get(value, "fault_message"));
    char line[400] = "";

    for (size_t i = 0; text && text[i] && i + 1 < sizeof(line); i++) {
        line[i] = isprint((unsigned char)text[i]) ? text[i] : ' ';
        line[i + 1] = '\0';
    }
    json_decref(value);
    return drafter_error_set(err, EINVAL, "Firecracker answers %ld%s%s", status, *line ? ": " : "",
                             line);
}

static int failed(CURLcode code, struct drafter_error *err)
{
    if (code == CURLE_OPERATION_TIMEDOUT)
        return drafter_error_set(err, ETIMEDOUT, "Firecracker does not answer");
    if (code == CURLE_WRITE_ERROR)
        return drafter_error_set(err, EPROTO, "Firecracker's answer is too long");
    return drafter_error_set(err, EPIPE, "no connection to Firecracker: %s", curl_easy_strerror(code));
}

static int perform(struct api *api, const char *method, const char *path, const char *body,
                   uint64_t deadline, struct answer *answer, struct drafter_error *err)
{
    uint64_t now = drafter_now_ns();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    char url[256];
    CURLcode code;
    long status = 0;

    if (!headers)
        return drafter_error_errno(err, ENOMEM, "Firecracker");
    snprintf(url, sizeof(url), "http://localhost%s", path);
    curl_easy_setopt(api->curl, CURLOPT_URL, url);
    curl_easy_setopt(api->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, headers);
    if (body)
        curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, body);
    else
        curl_easy_setopt(api->curl, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(api->curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(api->curl, CURLOPT_TIMEOUT_MS,
                     deadline > now ? (long)((deadline - now) / 1000000 + 1) : 1L);
    code = curl_easy_perform(api->curl);
    curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return failed(code, err);
    curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300 ? 0 : refused(answer, status, err);
}

static int call(struct api *api, const char *method, const char *path, json_t *body,
                uint64_t deadline, struct drafter_error *err)
{
    cleanup_free struct answer *answer = calloc(1, sizeof(*answer));
    cleanup_free char *text = body ? json_text(body, JSON_COMPACT) : NULL;

    json_decref(body);
    if (!answer || !text)
        return drafter_error_errno(err, ENOMEM, "Firecracker");
    return perform(api, method, path, text, deadline, answer, err);
}

int api_put(struct api *api, const char *path, json_t *body, uint64_t deadline,
            struct drafter_error *err)
{
    return call(api, "PUT", path, body, deadline, err);
}

int api_patch(struct api *api, const char *path, json_t *body, uint64_t deadline,
              struct drafter_error *err)
{
    return call(api, "PATCH", path, body, deadline, err);
}

int api_get(struct api *api, const char *path, uint64_t deadline, json_t **ret_value,
            struct drafter_error *err)
{
    cleanup_free struct answer *answer = calloc(1, sizeof(*answer));
    int result;

    if (!answer)
        return drafter_error_errno(err, ENOMEM, "Firecracker");
    result = perform(api, "GET", path, NULL, deadline, answer, err);
    if (result < 0)
        return result;
    *ret_value = json_loadb(answer->text, answer->length, 0, NULL);
    return *ret_value ? 0 : drafter_error_set(err, EPROTO, "Firecracker's answer is no JSON");
}
