/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads INI files with inih.
 *
 * inih knows neither empty sections nor, in its handler, line numbers, and cuts section names at 50
 * characters.  So it reads through feed(), which sees each line just before inih does: that is
 * where lines are counted and sections begin.  What inih would silently bend (over-long lines,
 * control characters) is refused before it starts.
 */
#include "config/suggest.h"
#include "config/tree.h"
#include "util/cleanup.h"
#include "util/io.h"

#include <ctype.h>
#include <ini.h>
#include <string.h>

#define FILE_SIZE_MAX (1u << 20)
#define LINE_LENGTH_MAX 32767

struct parser {
    struct config *config;
    struct config_section *section; /* NULL in front of the first and after a faulty one */
    bool skip;                      /* the section was faulty: its keys are not looked at */
    const char *next, *end;
    unsigned line;
    bool at_line_start;
    bool stop;
    struct config_report *report;
    struct drafter_error *err;
    int ret;
};

static void fault(struct parser *parser, int code, const char *format, ...) DRAFTER_PRINTF(3, 4);

/* Records a fault of the current line; without a report the first ends the run. */
static void fault(struct parser *parser, int code, const char *format, ...)
{
    char text[256];
    struct drafter_error found = {0};
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    drafter_error_set(&found, code, "%s:%u: %s", parser->config->origin, parser->line, text);
    config_fault(parser->report, parser->ret == 0 ? parser->err : NULL, &found);
    if (parser->ret == 0)
        parser->ret = -code;
    if (!parser->report)
        parser->stop = true;
}

/* Says why a section or an entry could not be added. */
static void fault_add(struct parser *parser, int ret, const char *what)
{
    if (ret == -ENOSPC)
        fault(parser, EINVAL, "too many %s", what);
    else if (ret < 0)
        fault(parser, -ret, "%s", strerror(-ret));
}

/* The range without blanks at its ends. */
static void trim(const char **start, const char **end)
{
    while (*start < *end && isspace((unsigned char)**start))
        ++*start;
    while (*start < *end && isspace((unsigned char)(*end)[-1]))
        --*end;
}

/* Copies a part of a section's name if it is of allowed characters and length. */
static bool copy_part(const char *start, const char *end, const char *allowed, char *buffer)
{
    size_t length;

    trim(&start, &end);
    length = (size_t)(end - start);
    if (length == 0 || length > DRAFTER_NAME_MAX || *start == '.')
        return false;
    memcpy(buffer, start, length);
    buffer[length] = '\0';
    return strspn(buffer, allowed) == length;
}

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

/* "kind" or "kind:id" between the brackets. */
static bool split_title(const char *start, const char *end, char *kind, char *id)
{
    const char *colon = memchr(start, ':', (size_t)(end - start));

    *id = '\0';
    if (!copy_part(start, colon ? colon : end, LETTERS, kind))
        return false;
    for (char *c = kind; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return !colon || copy_part(colon + 1, end, LETTERS ".", id);
}

/* A line that begins with '['. */
static void begin_section(struct parser *parser, const char *line, const char *end)
{
    char kind[DRAFTER_NAME_MAX + 1], id[DRAFTER_NAME_MAX + 1];
    const char *bracket = memchr(line, ']', (size_t)(end - line));
    const struct config_section *before;

    parser->section = NULL;
    parser->skip = true;
    if (!bracket) {
        fault(parser, EINVAL, "a section needs a closing ']'");
        return;
    }
    for (const char *rest = bracket + 1; rest < end && *rest != ';' && *rest != '#'; rest++) {
        if (!isspace((unsigned char)*rest)) {
            fault(parser, EINVAL, "found more after the ']' of a section");
            return;
        }
    }
    if (!split_title(line + 1, bracket, kind, id)) {
        fault(
            parser, EINVAL,
            "'%.*s' is no section: wanted [KIND] or [KIND:ID], of letters, digits, dashes and, in "
            "the id, dots, at most %d each",
            (int)(bracket - line + 1 > 80 ? 80 : bracket - line + 1), line, DRAFTER_NAME_MAX);
        return;
    }
    before = config_section(parser->config, kind, id);
    if (before) {
        fault(parser, EINVAL, "section [%s%s%s] is there already, at line %u", kind, *id ? ":" : "",
              id, before->line);
        return;
    }
    fault_add(parser, config_add_section(parser->config, kind, id, parser->line, &parser->section),
              "sections");
    parser->skip = !parser->section;
}

/* Whether inih will find a key in the line: a separator that no comment hides. */
static bool has_separator(const char *line, const char *end)
{
    for (const char *c = line; c < end; c++) {
        if (*c == '=' || *c == ':')
            return true;
        if (*c == ';' && c > line && isspace((unsigned char)c[-1]))
            return false;
    }
    return false;
}

static void begin_line(struct parser *parser, const char *line, const char *end)
{
    parser->line++;
    trim(&line, &end);
    if (line == end || *line == ';' || *line == '#')
        return;
    if (*line == '[')
        begin_section(parser, line, end);
    else if (!has_separator(line, end))
        fault(parser, EINVAL, "wanted KEY = VALUE or [SECTION]");
}

/* inih's reader, like fgets: hands out a line, or what fits of it. */
static char *feed(char *buffer, int size, void *stream)
{
    struct parser *parser = stream;
    size_t left = (size_t)(parser->end - parser->next), length;
    const char *newline = memchr(parser->next, '\n', left);

    length = newline ? (size_t)(newline - parser->next) + 1 : left;
    if (parser->at_line_start && left > 0)
        begin_line(parser, parser->next, parser->next + length);
    if (parser->stop || left == 0 || size < 2)
        return NULL;
    parser->at_line_start = newline && length <= (size_t)size - 1;
    if (length > (size_t)size - 1)
        length = (size_t)size - 1;
    memcpy(buffer, parser->next, length);
    buffer[length] = '\0';
    parser->next += length;
    return buffer;
}

/* inih's handler; `section` is what it made of the section line, which is not used. */
static int handle(void *opaque, const char *section, const char *key, const char *value)
{
    struct parser *parser = opaque;
    const struct config_entry *before;

    (void)section;
    if (parser->stop || parser->skip)
        return 1;
    if (!*key || strspn(key, LETTERS ".") != strlen(key) || !suggest_has_letters(key))
        fault(parser, EINVAL, "'%.64s' is no key: wanted letters, digits and dashes", key);
    else if (!parser->section)
        fault(parser, EINVAL, "key '%.64s' stands before the first [SECTION]", key);
    else if ((before = config_find_entry(parser->section, key)))
        fault(parser, EINVAL, "key '%.64s' is there already, at line %u", key, before->line);
    else
        fault_add(parser, config_add_entry(parser->section, key, value, parser->line), "keys");
    return 1;
}

/* Refuses what inih would cut or misread, with its line. */
static int check_text(const char *text, size_t length, const char *origin,
                      struct drafter_error *err)
{
    size_t line_start = 0;
    unsigned line = 1;

    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (i - line_start > LINE_LENGTH_MAX)
            return drafter_error_set(err, EINVAL, "%s:%u: line is longer than %d bytes", origin,
                                     line, LINE_LENGTH_MAX);
        if (c == '\n') {
            line++;
            line_start = i + 1;
        } else if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7f) {
            return drafter_error_set(err, EINVAL, "%s:%u: found control character 0x%02x", origin,
                                     line, c);
        } else if (c == '\r' && (i + 1 == length || text[i + 1] != '\n')) {
            return drafter_error_set(err, EINVAL, "%s:%u: found a carriage return inside of a line",
                                     origin, line);
        }
    }
    return 0;
}

/*
 * inih's settings are variables of the library, shared by the process: changed for one run and put
 * back, one run at a time.
 */
static int run_inih(struct parser *parser)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    lock_scope(&lock);
    bool use_stack = ini_use_stack, allow_realloc = ini_allow_realloc;
    bool multiline = ini_allow_multiline;
    int max_line = ini_max_line, ret;

    ini_use_stack = false;
    ini_allow_realloc = true;
    ini_allow_multiline = false;
    ini_max_line = 2 * (LINE_LENGTH_MAX + 1);
    ret = ini_parse_stream(feed, parser, handle, parser);
    ini_use_stack = use_stack;
    ini_allow_realloc = allow_realloc;
    ini_allow_multiline = multiline;
    ini_max_line = max_line;
    return ret;
}

/* Gives the configuration even when it has faults, so that the rest of it can be checked. */
static int parse(const char *text, size_t length, const char *origin, struct config **ret_config,
                 struct config_report *report, struct drafter_error *err)
{
    struct parser parser = {.at_line_start = true, .report = report, .err = err};
    int ret;

    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        length -= 3;
    }
    ret = check_text(text, length, origin, err);
    if (ret < 0) {
        if (err)
            config_report_add(report, err);
        return ret;
    }
    parser.config = config_new(origin);
    if (!parser.config)
        return drafter_error_errno(err, ENOMEM, "%s", origin);
    parser.config->from_file = true;
    parser.next = text;
    parser.end = text + length;
    ret = run_inih(&parser);
    if (ret != 0 && parser.ret == 0) {
        parser.line = ret > 0 ? (unsigned)ret : parser.line;
        fault(&parser, ret > 0 ? EINVAL : ENOMEM, "wanted KEY = VALUE or [SECTION]");
    }
    *ret_config = parser.config;
    return parser.ret;
}

int config_parse(const char *text, size_t length, const char *origin, struct config **ret_config,
                 struct drafter_error *err)
{
    struct config *config = NULL;
    int ret;

    if (length > FILE_SIZE_MAX)
        return drafter_error_set(err, EINVAL, "%s: longer than %u bytes", origin, FILE_SIZE_MAX);
    ret = parse(text, length, origin, &config, NULL, err);
    if (ret < 0) {
        config_free(config);
        return ret;
    }
    *ret_config = config;
    return 0;
}

int config_load(const char *path, struct config **ret_config, struct drafter_error *err)
{
    cleanup_free char *text = NULL;
    size_t length;
    int ret;

    ret = io_read_file(path, FILE_SIZE_MAX, &text, &length, err);
    if (ret < 0)
        return ret;
    ret = config_parse(text, length, path, ret_config, err);
    explicit_bzero(text, length);
    return ret;
}

int config_load_all(const char *path, struct config **ret_config, struct config_report *report,
                    struct drafter_error *err)
{
    struct drafter_error first = {0};
    cleanup_free char *text = NULL;
    size_t length;
    int ret;

    *ret_config = NULL;
    ret = io_read_file(path, FILE_SIZE_MAX, &text, &length, &first);
    if (ret < 0) {
        config_report_add(report, &first);
    } else {
        ret = parse(text, length, path, ret_config, report, &first);
        explicit_bzero(text, length);
    }
    if (ret < 0 && err)
        *err = first;
    return ret;
}
