/* SPDX-License-Identifier: BSD-2-Clause */
/* The server that the tests of the s3 plugin talk to; see tests/s3/server.py. */
#ifndef CONFORMANCE_STORAGE_S3_H
#define CONFORMANCE_STORAGE_S3_H

#include <jansson.h>

/* GET, or POST with a body, past the service itself: "/_log", "/_faults" ...; the caller frees it. */
json_t *s3_server(const char *path, const char *body);

/* How many objects have a name with this in it. */
unsigned s3_count(const char *fragment);

/* How many uploads in parts were begun and neither completed nor ended. */
unsigned s3_uploads(void);

/* How many requests of the method to a path with this in it there were. */
unsigned s3_requests(const char *method, const char *fragment);

#endif
