/* SPDX-License-Identifier: BSD-2-Clause */
/* What a plugin says of itself, for people and for programs. */
#ifndef PLUGIN_DESCRIBE_H
#define PLUGIN_DESCRIBE_H

#include "plugin/plugin.h"

#include <jansson.h>
#include <stdio.h>

/* Version, interface, licence, thread model, operations and options. */
void describe_text(const struct plugin *plugin, FILE *stream);

/* The same as an object; the caller owns the reference.  NULL without memory. */
json_t *describe_json(const struct plugin *plugin);

/* An option table alone. */
void describe_options_text(const struct drafter_option *options, FILE *stream);
json_t *describe_options_json(const struct drafter_option *options);

#endif
