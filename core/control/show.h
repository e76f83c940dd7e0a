/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the control socket, for people. */
#ifndef CONTROL_SHOW_H
#define CONTROL_SHOW_H

#include <jansson.h>
#include <stdio.h>

/* All that `status` said, a line for each. */
void control_show_status(const json_t *status, FILE *stream);

/* How far a migration is, on one line; nothing when there is none. */
void control_show_progress(const json_t *status, FILE *stream);

/* A row of `drafter ps`; NULL: the heading. */
void control_show_row(const json_t *status, FILE *stream);

#endif
