/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `drafter completion SHELL`: commands, roles and flags, as the tables have them.  Names are lower-case words with
 * dashes; summaries are quoted for the shells that show them.
 */
#include "command.h"

#include "image/image.h"
#include "role/role.h"
#include "role/tables.h"

#include <stdio.h>
#include <string.h>

static const char *const program_flags[] = {"config",    "json",  "log-format", "log-level",
                                            "take-over", "quiet", "help",       "version", NULL};

/* In single quotes; those inside are left out, for shells disagree about them. */
static void print_quoted(const char *text)
{
    putchar('\'');
    for (; text && *text; text++)
        if (*text != '\'')
            putchar(*text);
    putchar('\'');
}

static void print_commands(const char *const *commands)
{
    for (; *commands; commands += 2)
        printf("%s ", *commands);
}

static void print_roles(void)
{
    for (const char *const *role = role_names; *role; role++)
        printf("%s ", *role);
}

static void print_program_flags(void)
{
    for (const char *const *flag = program_flags; *flag; flag++)
        printf("--%s ", *flag);
}

static void print_word(void *opaque, const struct config_shown *flag)
{
    (void)opaque;
    printf("--%s ", flag->name);
}

static void print_options(const struct drafter_option *options)
{
    for (; options->key; options++)
        printf("--%s ", options->key);
}

/* A branch for each role, of a `case` that sets `words`. */
static void print_branches(void)
{
    for (const char *const *role = role_names; *role; role++) {
        printf("    %s) words='", *role);
        role_show_flags(*role, print_word, NULL);
        print_program_flags();
        printf("' ;;\n");
    }
}

/* What both shells run: the first word that is no flag decides, or the name of the link. */
static void print_decision(const char *const *commands, const char *words)
{
    printf("  local word what= words=\n"
           "  what=${%s##*/}; what=${what#drafter-}\n"
           "  if [ \"$what\" = drafter ]; then\n"
           "    what=\n"
           "    for word in \"${%s}\"; do\n"
           "      case $word in -*) ;; config) ;; *) what=$word; break ;; esac\n"
           "    done\n"
           "  fi\n"
           "  case $what in\n",
           words, !strcmp(words, "words[1]") ? "(@)words[2,CURRENT-1]" : "COMP_WORDS[@]:1:COMP_CWORD-1");
    print_branches();
    printf("    ctl) words='status migratable migrate cancel snapshot suspend resume stop --name "
           "--run-directory --json' ;;\n"
           "    completion) words='bash zsh fish' ;;\n"
           "    image) words='build unpack pack os ");
    print_options(image_option_table);
    printf("' ;;\n"
           "    '') words='");
    print_commands(commands);
    print_roles();
    print_program_flags();
    printf("' ;;\n    *) words='");
    print_program_flags();
    printf("' ;;\n  esac\n");
}

static void print_bash(const char *const *commands)
{
    printf("# bash completion for drafter, made by: drafter completion bash\n_drafter()\n{\n");
    print_decision(commands, "COMP_WORDS[0]");
    printf("  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
           "complete -o default -F _drafter drafter");
    for (const char *const *role = role_names; *role; role++)
        printf(" drafter-%s", *role);
    putchar('\n');
}

static void print_zsh(const char *const *commands)
{
    printf("#compdef drafter");
    for (const char *const *role = role_names; *role; role++)
        printf(" drafter-%s", *role);
    printf("\n# made by: drafter completion zsh\n_drafter()\n{\n");
    print_decision(commands, "words[1]");
    printf("  if [[ $PREFIX == -* || -z $what || $what == (completion|ctl|image) ]]; then\n"
           "    compadd -- ${=words}\n  else\n    _files\n  fi\n}\n_drafter \"$@\"\n");
}

static void print_fish_flag(void *opaque, const struct config_shown *flag)
{
    const char *role = opaque;

    printf("complete -c drafter -n '__fish_seen_subcommand_from %s' -l %s %s-d ", role, flag->name,
           flag->is_switch ? "" : "-r ");
    print_quoted(flag->help);
    printf("\ncomplete -c drafter-%s -l %s %s-d ", role, flag->name, flag->is_switch ? "" : "-r ");
    print_quoted(flag->help);
    putchar('\n');
}

static void print_fish(const char *const *commands)
{
    printf("# fish completion for drafter, made by: drafter completion fish\n");
    for (; *commands; commands += 2) {
        printf("complete -c drafter -n __fish_use_subcommand -a %s -d ", *commands);
        print_quoted(commands[1]);
        putchar('\n');
    }
    for (const char *const *flag = program_flags; *flag; flag++)
        printf("complete -c drafter -l %s\n", *flag);
    for (const char *const *role = role_names; *role; role++) {
        printf("complete -c drafter -n __fish_use_subcommand -a %s -d ", *role);
        print_quoted(role_table_find(*role)->summary);
        putchar('\n');
        role_show_flags(*role, print_fish_flag, (void *)*role);
    }
}

int command_completion(const char *shell, const char *const *commands, struct drafter_error *err)
{
    if (!strcmp(shell, "bash"))
        print_bash(commands);
    else if (!strcmp(shell, "zsh"))
        print_zsh(commands);
    else if (!strcmp(shell, "fish"))
        print_fish(commands);
    else
        return drafter_error_set(err, EINVAL, "completion knows bash, zsh and fish, not \"%.64s\"",
                                 shell);
    return 0;
}
