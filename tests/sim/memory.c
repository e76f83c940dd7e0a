/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the code under test.  Every piece belongs to the node whose thread asked for it: so a
 * killed node's memory goes with it, what a session leaves behind is seen, and a peer that makes its
 * node hoard is, too.
 */
#include "fiber.h"
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC UINT32_C(0x51e3d0a7)

struct piece {
    struct piece *next, *previous;
    size_t size;
    uint32_t magic;
    int node;
};

static struct piece lists[SIM_NODES + 1]; /* the last one is the world's */
static size_t live[SIM_NODES + 1], peak[SIM_NODES + 1];

void *__real_malloc(size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);
int __wrap_vasprintf(char **ret_text, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static unsigned list_of(int node)
{
    return node < 0 ? SIM_NODES : (unsigned)node;
}

static void *allocate(int node, size_t size)
{
    struct piece *list = &lists[list_of(node)];
    struct piece *piece = __real_malloc(sizeof(*piece) + size);

    if (!piece)
        sim_die("out of memory");
    if (!list->next)
        list->next = list->previous = list;
    *piece = (struct piece){list->next, list, size, MAGIC, node};
    list->next->previous = piece;
    list->next = piece;
    live[list_of(node)] += size;
    if (live[list_of(node)] > peak[list_of(node)])
        peak[list_of(node)] = live[list_of(node)];
    return piece + 1;
}

void *sim_allocate(size_t size)
{
    return memset(allocate(FIBER_WORLD, size), 0, size);
}

void memory_drop(int node)
{
    struct piece *list = &lists[list_of(node)];

    while (list->next && list->next != list)
        __wrap_free(list->next + 1);
    peak[list_of(node)] = 0;
}

size_t memory_live(int node)
{
    return live[list_of(node)];
}

size_t memory_peak(int node)
{
    return peak[list_of(node)];
}

void *__wrap_malloc(size_t size)
{
    if (fault_takes(fiber_node(), FAULT_MEMORY, "memory"))
        return NULL;
    return allocate(fiber_node(), size);
}

/*
 * For jansson, whose lexer writes beyond its buffer when that cannot grow (2.14, lex_save): a library's
 * defect that no change here mends.
 */
void *memory_for_json(size_t size)
{
    return allocate(fiber_node(), size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t total;
    void *memory = __builtin_mul_overflow(count, size, &total) ? NULL : __wrap_malloc(total);

    return memory ? memset(memory, 0, total) : NULL;
}

void __wrap_free(void *memory)
{
    struct piece *piece = (struct piece *)memory - 1;

    if (!memory)
        return;
    if (piece->magic != MAGIC)
        sim_die("memory is freed that was not allocated, or twice");
    piece->magic = 0;
    piece->next->previous = piece->previous;
    piece->previous->next = piece->next;
    live[list_of(piece->node)] -= piece->size;
    __real_free(piece);
}

void *__wrap_realloc(void *memory, size_t size)
{
    void *grown = __wrap_malloc(size);

    if (grown && memory) {
        size_t old = ((struct piece *)memory - 1)->size;

        memcpy(grown, memory, old < size ? old : size);
        __wrap_free(memory);
    }
    return grown;
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    size_t total;

    return __builtin_mul_overflow(count, size, &total) ? NULL : __wrap_realloc(memory, total);
}

char *__wrap_strndup(const char *text, size_t length)
{
    size_t size = strnlen(text, length);
    char *copy = __wrap_malloc(size + 1);

    if (!copy)
        return NULL;
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

int __wrap_vasprintf(char **ret_text, const char *format, va_list arguments)
{
    va_list again;
    int length;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    *ret_text = length < 0 ? NULL : __wrap_malloc((size_t)length + 1);
    return *ret_text ? vsnprintf(*ret_text, (size_t)length + 1, format, arguments) : -1;
}

int __wrap_asprintf(char **ret_text, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = __wrap_vasprintf(ret_text, format, arguments);
    va_end(arguments);
    return length;
}

int __wrap___asprintf_chk(char **ret_text, int flag, const char *format, ...)
{
    va_list arguments;
    int length;

    (void)flag;
    va_start(arguments, format);
    length = __wrap_vasprintf(ret_text, format, arguments);
    va_end(arguments);
    return length;
}
