/* SPDX-License-Identifier: BSD-2-Clause */
#include <drafter/common.h>
#include <stdio.h>
#include <string.h>

/* A failure without a code would read as success to the caller. */
static int error_code(int code)
{
    if (code < 0)
        code = -code;
    return code ? code : EIO;
}

static void append(char *message, const char *text)
{
    size_t used = strlen(message);
    size_t length = strnlen(text, DRAFTER_ERROR_MAX - 1 - used);

    memcpy(message + used, text, length);
    message[used + length] = '\0';
}

/* The text is made apart from err->message, because an argument may point there. */
static void format_message(char *message, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void format_message(char *message, const char *format, va_list arguments)
{
    if (vsnprintf(message, DRAFTER_ERROR_MAX, format, arguments) < 0)
        message[0] = '\0';
}

int drafter_error_set(struct drafter_error *err, int code, const char *format, ...)
{
    char message[DRAFTER_ERROR_MAX];
    va_list arguments;

    code = error_code(code);
    if (!err)
        return -code;
    va_start(arguments, format);
    format_message(message, format, arguments);
    va_end(arguments);
    err->code = code;
    memcpy(err->message, message, strlen(message) + 1);
    return -code;
}

int drafter_error_errno(struct drafter_error *err, int code, const char *format, ...)
{
    char message[DRAFTER_ERROR_MAX], reason[128];
    va_list arguments;

    code = error_code(code);
    if (!err)
        return -code;
    va_start(arguments, format);
    format_message(message, format, arguments);
    va_end(arguments);
    append(message, ": ");
    append(message, strerror_r(code, reason, sizeof(reason)));
    err->code = code;
    memcpy(err->message, message, strlen(message) + 1);
    return -code;
}

int drafter_error_wrap(struct drafter_error *err, const char *format, ...)
{
    char message[DRAFTER_ERROR_MAX];
    va_list arguments;

    if (!err)
        return -EIO;
    va_start(arguments, format);
    format_message(message, format, arguments);
    va_end(arguments);
    append(message, ": ");
    append(message, err->message);
    err->code = error_code(err->code);
    memcpy(err->message, message, strlen(message) + 1);
    return -err->code;
}
