/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of command lines share. */
#ifndef CONFIG_FLAGS_INTERNAL_H
#define CONFIG_FLAGS_INTERNAL_H

#include "config/flags.h"

/* The language of values is that of files. */
int flags_check_value(const char *name, const char *value, struct drafter_error *err);

/* flags-objects.c: the JSON text of a flag becomes sections. */
int flags_set_objects(struct config *config, const struct config_flag *flag, const char *text,
                      struct drafter_error *err);

/* flags-choice.c: the plugin whose options are flags, too, as file and line choose it; NULL: none. */
const char *flags_chosen_plugin(const struct config *config, const struct config_flags *flags,
                                char *const *arguments);

#endif
