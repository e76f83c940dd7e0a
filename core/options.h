/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of the program. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "util/log.h"

struct options {
    const char *command; /* a command, a role, or NULL: the role that the file names */
    const char *config;  /* --config FILE, or NULL */
    const char *take_over; /* --take-over EPOCH, or NULL */
    bool json, help, version;
    enum log_format log_format;
    enum drafter_log_level log_level;
    int rest_count; /* what follows the command; a role reads its own flags */
    char **rest;    /* NULL-terminated; the strings are those of argv */
};

/*
 * Reads the command line.  `commands` and `roles` (NULL-terminated) are the words that the command may
 * be; a program called drafter-ROLE is that role.  Arguments that are not options of drafter itself go
 * to `rest` after a role and are refused elsewhere, with the nearest valid name.  Release with
 * options_release.
 */
int options_parse(int argc, char **argv, const char *const *commands, const char *const *roles,
                  struct options *ret_options, struct drafter_error *err);
void options_release(struct options *options);

#endif
