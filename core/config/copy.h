/* SPDX-License-Identifier: BSD-2-Clause */
/* Copies of single sections, for instances that outlive the configuration they came from. */
#ifndef CONFIG_COPY_H
#define CONFIG_COPY_H

#include "config/config.h"

/* A configuration with this section alone, same origin, lines and marks; NULL without memory. */
struct config *config_copy_section(const struct config_section *section);

/* Marks in `section` what is marked in its copy: keys that a table knew, values that are secret. */
void config_copy_marks(const struct config_section *copy, const struct config_section *section);

#endif
