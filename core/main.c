/* SPDX-License-Identifier: BSD-2-Clause */
#include "command.h"
#include "options.h"
#include "role/role.h"
#include "util/failpoint.h"
#include "util/json.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* What the program returns; drafter(8) promises these. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_PERMISSION = 4,
    EXIT_CONFLICT = 5,
    EXIT_PEER = 6,
    EXIT_CANCELLED = 7,
    EXIT_PARTIAL = 8,
};

struct command {
    const char *name, *summary;
    int (*run)(const struct options *options, struct drafter_error *err);
};

static int run_check(const struct options *options, struct drafter_error *err)
{
    if (!options->config == !options->rest_count)
        return drafter_error_set(err, EINVAL, "check takes --config FILE, or the names of files");
    if (options->rest_count)
        return command_check_files(options->rest_count, options->rest, options->json, err);
    return command_check(options->config, options->json, err);
}

static int run_plugins(const struct options *options, struct drafter_error *err)
{
    if (options->rest_count > 1)
        return drafter_error_set(err, EINVAL, "plugins takes one name");
    return command_plugins(options->rest[0], options->json, err);
}

static int run_roles(const struct options *options, struct drafter_error *err)
{
    if (options->rest_count > 1)
        return drafter_error_set(err, EINVAL, "roles takes one name");
    return command_roles(options->rest[0], options->json, err);
}

static int run_ownership(const struct options *options, struct drafter_error *err)
{
    if (!options->config)
        return drafter_error_set(err, EINVAL, "ownership needs --config FILE");
    if (options->rest_count)
        return drafter_error_set(err, EINVAL, "ownership takes no argument \"%s\"",
                                 options->rest[0]);
    return command_ownership(options->config, options->take_over, options->json, err);
}

static int run_reexec(const struct options *options, struct drafter_error *err)
{
    if (!options->config || options->rest_count)
        return drafter_error_set(err, EINVAL, "reexec takes --config FILE and nothing else");
    return command_reexec(options->config, err);
}

static int run_keygen(const struct options *options, struct drafter_error *err)
{
    if (options->rest_count != 1)
        return drafter_error_set(err, EINVAL, "keygen takes the path of the key, without .key");
    return command_keygen(options->rest[0], options->json, err);
}

static int run_trust(const struct options *options, struct drafter_error *err)
{
    return command_trust(options->config, options->rest_count, options->rest, options->json, err);
}

static int run_completion(const struct options *options, struct drafter_error *err);

static const struct command commands[] = {
    {"binlog", "print a record of what a VM did with a device, or replay it", command_binlog},
    {"check", "check a configuration, or overlays, ledgers and packages", run_check},
    {"completion", "print the completions of bash, zsh or fish", run_completion},
    {"config", "print what the flags of a role, or a file, mean, as a file", command_config},
    {"ctl", "ask a node that runs: status, migratable, migrate, cancel, snapshot, suspend, resume, stop",
     command_ctl},
    {"image", "make a disk of an OCI image (build, unpack, pack), or the guest that runs it (os)",
     command_image},
    {"keygen", "make a key by which others know this node", run_keygen},
    {"ownership", "show who may run the VM, or take it over by force", run_ownership},
    {"package", "inspect a package, or verify it", command_package},
    {"plugins", "list the plugins, or describe one by name or absolute path", run_plugins},
    {"ps", "list the nodes that run", command_ps},
    {"reexec", "upgrade the drafter of a running VM", run_reexec},
    {"roles", "list what the program can be, or the keys of a role's section", run_roles},
    {"trust", "list, add or remove the keys that this node trusts", run_trust},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static int run_completion(const struct options *options, struct drafter_error *err)
{
    const char *words[2 * COMMAND_COUNT + 1] = {NULL};

    if (options->rest_count != 1)
        return drafter_error_set(err, EINVAL, "completion takes bash, zsh or fish");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        words[2 * i] = commands[i].name;
        words[2 * i + 1] = commands[i].summary;
    }
    return command_completion(options->rest[0], words, err);
}

static void print_help(void)
{
    printf("Usage: drafter --config FILE            run the role that the file names\n"
           "       drafter ROLE [FLAGS]             run a role; also as drafter-ROLE\n"
           "       drafter COMMAND [ARGUMENTS]\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-14s %s\n", commands[i].name, commands[i].summary);
    printf("\nRoles:\n ");
    for (const char *const *role = role_names; *role; role++)
        printf(" %s", *role);
    printf("\n\nOptions:\n"
           "  --config FILE           the configuration, see drafter.conf(5)\n"
           "  --json                  commands print JSON\n"
           "  --take-over EPOCH       ownership: take the VM over by force\n"
           "  --log-format FORMAT     auto (default), human or json\n"
           "  --log-level LEVEL       error, warning, info (default) or debug\n"
           "  -q, --quiet             the same as --log-level error\n"
           "  -h, --help              print this\n"
           "  --version               print the version\n\n"
           "Exit status: 0 ok, 1 failed, 2 usage or configuration, 3 not found, 4 no permission,\n"
           "5 conflict, 6 peer or network, 7 cancelled and the VM is safe at its source, 8 partial.\n");
}

static enum exit_code exit_code(int result)
{
    switch (-result) {
    case 0:
        return EXIT_OK;
    case EINVAL:
        return EXIT_USAGE;
    case ENOENT:
        return EXIT_NOT_FOUND;
    case EACCES:
    case EPERM:
        return EXIT_PERMISSION;
    case EEXIST:
    case EBUSY:
    case EADDRINUSE:
    case ESTALE:
        return EXIT_CONFLICT;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPIPE:
    case EPROTO:
    case ETIMEDOUT:
        return EXIT_PEER;
    case ECANCELED:
        return EXIT_CANCELLED;
    case EINPROGRESS:
        return EXIT_PARTIAL;
    default:
        return EXIT_FAILED;
    }
}

static int dispatch(const struct options *options, struct drafter_error *err)
{
    if (options->take_over && (!options->command || strcmp(options->command, "ownership") != 0))
        return drafter_error_set(err, EINVAL, "--take-over belongs to the command ownership");
    for (size_t i = 0; options->command && i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, options->command) == 0)
            return commands[i].run(options, err);
    }
    if (!options->command && !options->config)
        return drafter_error_set(err, EINVAL, "nothing to do: no --config FILE and no command");
    return role_run(options->command, options, err);
}

/* Silent connections cost descriptors; those of the VM must not run out for that. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Commands that read their arguments themselves. */
static bool takes_arguments(const struct command *command)
{
    return command->run == command_config || command->run == command_ctl ||
           command->run == command_image || command->run == command_ps;
}

/* Words after which all arguments that are not the program's own are somebody else's. */
static void list_words(const char **commands_only, const char **takers)
{
    for (const char *const *role = role_names; *role; role++)
        *takers++ = *role;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (takes_arguments(&commands[i]))
            *takers++ = commands[i].name;
        else
            *commands_only++ = commands[i].name;
    }
}

static bool is_role(const char *name)
{
    for (const char *const *role = role_names; name && *role; role++)
        if (strcmp(*role, name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *names[COMMAND_COUNT + 1] = {NULL}, *takers[64] = {NULL};
    struct drafter_error err = {0};
    struct options options = {.log_level = DRAFTER_LOG_INFO};
    int result;

    raise_descriptor_limit();
    json_use_reserve();
    signal(SIGPIPE, SIG_IGN); /* a peer that goes away is an errno, not the end */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
    list_words(names, takers);
    result = options_parse(argc, argv, names, takers, &options, &err);
    log_setup(options.log_format, options.log_level);
    if (result == 0)
        result = failpoint_setup(&err);
    if (result == 0 && options.help && is_role(options.command))
        role_print_help(options.command);
    else if (result == 0 && options.help && options.command && !strcmp(options.command, "image"))
        command_image_help();
    else if (result == 0 && options.help)
        print_help();
    else if (result == 0 && options.version)
        printf("drafter %s\n", PACKAGE_VERSION);
    else if (result == 0)
        result = dispatch(&options, &err);
    if (result == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        result = drafter_error_errno(&err, errno, "standard output");
    if (result < 0)
        log_error("drafter", "%s", err.code ? err.message : strerror(-result));
    options_release(&options);
    return exit_code(result);
}
