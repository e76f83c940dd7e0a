/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands of the program that are not roles. */
#ifndef COMMAND_H
#define COMMAND_H

#include <drafter/common.h>

struct options;

/* Reads and checks a configuration without starting anything; all its faults go to standard output. */
int command_check(const char *config_path, bool json, struct drafter_error *err);

/* Shows what is in a package (inspect), or reads all of it and compares its hashes (verify). */
int command_package(const struct options *options, struct drafter_error *err);

/* Prints what a VM did with a device (print), or does it again with one of a configuration (replay). */
int command_binlog(const struct options *options, struct drafter_error *err);

/* Makes disks of OCI images, and the guest that runs them. */
int command_image(const struct options *options, struct drafter_error *err);
void command_image_help(void);

/* Says of files what they are and whether they are whole. */
int command_check_files(int count, char **paths, bool json, struct drafter_error *err);

/* Lists the plugins, or describes the one of this name or absolute path. */
int command_plugins(const char *name, bool json, struct drafter_error *err);

/* Prints the configuration that a role's command line, or a file, amounts to, as a file. */
int command_config(const struct options *options, struct drafter_error *err);

/* Lists the sections that roles read, or describes one with its keys. */
int command_roles(const char *section, bool json, struct drafter_error *err);

/*
 * Shows who may run the VM of a configuration, and what a start would do.  `take_over_epoch`: NULL, or the
 * epoch in which it is to be taken over by force, as text.
 */
int command_ownership(const char *config_path, const char *take_over_epoch, bool json,
                      struct drafter_error *err);

/* Has the drafter that runs this configuration's VM go on as the binary that its file is by now. */
int command_reexec(const char *config_path, struct drafter_error *err);

/* Asks a node that runs, by its control socket; lists those that do. */
int command_ctl(const struct options *options, struct drafter_error *err);
int command_ps(const struct options *options, struct drafter_error *err);

/*
 * Prints the completions of a shell (bash, zsh, fish), made from the option tables.  `commands`, names and summaries
 * by turns, ends with NULL.
 */
int command_completion(const char *shell, const char *const *commands, struct drafter_error *err);

/* Makes a key at PATH.key, with its certificate, and prints how others call it. */
int command_keygen(const char *path, bool json, struct drafter_error *err);

/*
 * The trust file: [drafter] trust of a configuration (NULL: the default), which is otherwise not looked at.
 * The path lives as long as *ret_config, which the caller frees.
 */
struct config;
int command_find_trust(const char *config_path, struct config **ret_config, const char **ret_path,
                       struct drafter_error *err);

/* Lists the trust file of a configuration (NULL: the default), or changes it: add, remove. */
int command_trust(const char *config_path, int count, char **words, bool json,
                  struct drafter_error *err);

#endif
