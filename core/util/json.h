/* SPDX-License-Identifier: BSD-2-Clause */
/* Scope-bound release of JSON values. */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

#include <jansson.h>

static inline void cleanup_json_(json_t **json)
{
    json_decref(*json);
}

#define cleanup_json __attribute__((cleanup(cleanup_json_)))

#endif
