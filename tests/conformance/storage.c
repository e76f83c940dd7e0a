/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The contract of drafter/storage.h, over every storage that was built and over stacks of them.  Each
 * test runs once per subject in a process of its own, against an array in memory; the fixture counts
 * descriptors, so that every test is a leak test too.
 */
#include "storage.h"

#include "util/io.h"
#include <fcntl.h>
#include <unistd.h>

#define SIZE ((uint64_t)(300 * PAGE + 1000)) /* more than one region of the cow, and an odd end */
#define BASE_SEED 7

struct subject {
    const char *name;
    const char *plugins[3]; /* lowest first; all must have been built */
    bool keeps;             /* content outlives the instance */
    bool base_is_zero;      /* nothing written yet reads as zeros, not as the base's pattern */
    const char *const *options; /* of a `file` */
    bool takes_over; /* a second writer ends the first one's writes instead of being refused */
};

static const char *const direct[] = {"direct", "yes", NULL};

static const struct subject all_subjects[] = {
    {"null", {"null"}, false, true, NULL, false},
    {"file", {"file"}, true, true, NULL, false},
    {"direct file", {"file"}, true, true, direct, false},
    {"cow over file", {"file", "cow"}, true, false, NULL, false},
    {"cow over cow", {"file", "cow", "cow"}, true, false, NULL, false},
    {"cow over null", {"null", "cow"}, true, true, NULL, false},
    {"s3", {"s3"}, true, true, NULL, true},
    {"s3 over file", {"file", "s3"}, true, false, NULL, true},
};
#define ALL_SUBJECTS (sizeof(all_subjects) / sizeof(*all_subjects))

static const struct subject *subjects[ALL_SUBJECTS]; /* those that were built */
static unsigned subject_count;

static unsigned fds_before;
static uint8_t *reference;
static uint64_t random_state;

/* ---- making stacks ---------------------------------------------------------------------------- */

struct instance *storage_make(const char *plugin, const char *const *overrides, struct instance *next)
{
    struct drafter_error err = {0};
    struct instance *made = NULL;
    int rc = instance_new(DRAFTER_KIND_STORAGE, NULL, plugin, overrides, plugin,
                          conformance_directory(), next, &made, &err);

    ck_assert_msg(rc == 0, "%s: %s", plugin, err.message);
    return made;
}

void storage_must_open(struct instance *storage, uint64_t size, unsigned flags)
{
    struct drafter_error err = {0};
    int rc = storage_open(storage, size, flags, &err);

    ck_assert_msg(rc == 0, "open: %s", err.message);
}

void storage_write_file(const char *path, uint64_t seed, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint8_t *bytes = malloc(size);

    conformance_fill(bytes, size, seed, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(io_write_full(fd, bytes, size), 0);
    close(fd);
    free(bytes);
}

void storage_damage(const char *path, const void *data, size_t length, uint64_t offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t bytes[1024];

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_le(length, sizeof bytes);
    if (!data) {
        ck_assert_int_eq(io_pread_full(fd, bytes, length, offset), 0);
        for (size_t i = 0; i < length; i++)
            bytes[i] ^= 0x5a;
    }
    ck_assert_int_eq(io_pwrite_full(fd, data ? data : bytes, length, offset), 0);
    close(fd);
}

struct instance *storage_base(const char *path)
{
    struct instance *base =
        storage_make("file", (const char *const[]){"path", path, NULL}, NULL);

    storage_must_open(base, 0, DRAFTER_STORAGE_READONLY);
    return base;
}

struct instance *storage_cow(struct instance *base, const char *name)
{
    char overlay[600], state[600];

    snprintf(overlay, sizeof overlay, "%s/%s.overlay", conformance_directory(), name);
    snprintf(state, sizeof state, "%s/%s.state", conformance_directory(), name);
    return storage_make("cow", (const char *const[]){"overlay", overlay, "state", state, NULL}, base);
}

static struct instance *make_level(const struct subject *subject, unsigned level, const char *tag,
                                   struct instance *next)
{
    char name[64], path[600];
    const char *options[8] = {"path", path};
    size_t n = 2;

    snprintf(name, sizeof name, "%s.%u", tag, level);
    snprintf(path, sizeof path, "%s/%s.file", conformance_directory(), name);
    if (strcmp(subject->plugins[level], "cow") == 0)
        return storage_cow(next, name);
    if (strcmp(subject->plugins[level], "s3") == 0)
        return storage_s3(next, name, NULL);
    if (strcmp(subject->plugins[level], "null") == 0)
        return storage_make("null", (const char *const[]){"size", "1229800", NULL}, NULL);
    for (const char *const *option = subject->options; option && *option; option++)
        options[n++] = *option;
    if (level == 0 && subject->plugins[1] && access(path, F_OK) != 0)
        storage_write_file(path, BASE_SEED, SIZE);
    return storage_make(subject->plugins[level], options, next);
}

static void stack_free(struct stack *stack)
{
    while (stack->count > 0)
        instance_free(stack->levels[--stack->count]);
    stack->top = NULL;
}

/* A layer in the middle holds pages of its own, with the content of the base. */
static void fill_middle(struct instance *middle)
{
    uint8_t bytes[PAGE];

    storage_must_open(middle, SIZE, DRAFTER_STORAGE_CREATE);
    for (uint64_t page = 0; page < SIZE / PAGE; page += 3) {
        conformance_fill(bytes, PAGE, BASE_SEED, page * PAGE);
        ck_assert_int_eq(storage_write(middle, bytes, PAGE, page * PAGE), 0);
    }
    ck_assert_int_eq(storage_flush(middle), 0);
}

/* The stack with all but its top open. */
static struct stack stack_make(const struct subject *subject, const char *tag)
{
    struct stack stack = {.count = 0};

    for (unsigned level = 0; level < 3 && subject->plugins[level]; level++) {
        if (level == 2) {
            fill_middle(stack.top);
            instance_free(stack.top);
            stack.top = stack.levels[1] = make_level(subject, 1, tag, stack.levels[0]);
        }
        if (level > 0 && strcmp(subject->plugins[level], "s3") != 0) /* it opens what is below for writing */
            storage_must_open(stack.top, SIZE, DRAFTER_STORAGE_READONLY);
        stack.top = stack.levels[stack.count++] = make_level(subject, level, tag, stack.top);
    }
    return stack;
}

static struct stack stack_open(const struct subject *subject, const char *tag, unsigned flags)
{
    struct stack stack = stack_make(subject, tag);

    storage_must_open(stack.top, SIZE, flags);
    return stack;
}

static struct stack stack_new(const struct subject *subject, const char *tag)
{
    if (subject->base_is_zero)
        memset(reference, 0, SIZE);
    else
        conformance_fill(reference, SIZE, BASE_SEED, 0);
    return stack_open(subject, tag, DRAFTER_STORAGE_CREATE);
}

/* ---- fixture and helpers ---------------------------------------------------------------------- */

static void remove_files(void)
{
    /* The directory is this process's own copy: tests are forked and one runs at a time. */
    const char *directory = conformance_directory();

    io_remove_tree(directory, NULL);
    ck_assert_int_eq(io_make_directories(directory, 0700, NULL), 0);
}

static void setup(void)
{
    fds_before = conformance_open_fds();
    reference = malloc(SIZE);
    random_state = 42;
}

static void teardown(void)
{
    free(reference);
    ck_assert_uint_eq(conformance_open_fds(), fds_before);
    remove_files();
    storage_s3_clear();
}

static uint64_t chance(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(0x2545F4914F6CDD1D) % below;
}

/* Bounce-free buffers: aligned, so that direct I/O takes its own path. */
static uint8_t *buffer_new(size_t length)
{
    void *memory = NULL;

    ck_assert_int_eq(posix_memalign(&memory, PAGE, length), 0);
    return memory;
}

static void check_all(struct instance *storage, const char *when)
{
    uint8_t *found = buffer_new(SIZE);

    ck_assert_int_eq(storage_read(storage, found, SIZE, 0), 0);
    if (memcmp(found, reference, SIZE) != 0) {
        uint64_t at = 0;

        while (found[at] == reference[at])
            at++;
        ck_abort_msg("%s: byte %llu is wrong", when, (unsigned long long)at);
    }
    free(found);
}

/* A range as the core may ask for: multiples of 512, and to the odd end. */
static void pick_range(uint64_t *offset, uint64_t *length)
{
    bool pages = chance(2);
    uint64_t unit = pages ? PAGE : 512;

    *offset = chance(SIZE / unit) * unit;
    *length = (1 + chance(chance(8) == 0 ? 100 * PAGE / unit : 12)) * unit;
    if (*offset + *length > SIZE || chance(16) == 0)
        *length = SIZE - *offset;
}

static void random_step(struct instance *storage, uint8_t *buffer)
{
    uint64_t offset, length, kind = chance(10);

    pick_range(&offset, &length);
    if (kind < 5) {
        conformance_fill(buffer, length, random_state, 0);
        ck_assert_int_eq(storage_write(storage, buffer, length, offset), 0);
        memcpy(reference + offset, buffer, length);
    } else if (kind == 5) {
        ck_assert_int_eq(storage_zero(storage, length, offset), 0);
        memset(reference + offset, 0, length);
    } else if (kind == 6) {
        ck_assert_int_eq(storage_trim(storage, length, offset), 0);
        ck_assert_int_eq(storage_read(storage, reference + offset, length, offset), 0);
    } else if (kind == 7) {
        ck_assert_int_eq(storage_flush(storage), 0);
    } else {
        ck_assert_int_eq(storage_read(storage, buffer, length, offset), 0);
        ck_assert_mem_eq(buffer, reference + offset, length);
    }
}

static void random_steps(struct instance *storage, unsigned steps)
{
    uint8_t *buffer = buffer_new(SIZE);

    for (unsigned i = 0; i < steps; i++)
        random_step(storage, buffer);
    free(buffer);
}

static void check_extents(struct instance *storage)
{
    for (uint64_t offset = 0, length; offset < SIZE; offset += length) {
        enum drafter_extent_kind kind;

        ck_assert_int_eq(storage_extent(storage, offset, SIZE - offset, &kind, &length), 0);
        ck_assert_uint_gt(length, 0);
        ck_assert_msg(kind == DRAFTER_EXTENT_DATA || io_is_zero(reference + offset, length),
                      "%llu bytes at %llu are not zero", (unsigned long long)length,
                      (unsigned long long)offset);
    }
}

/* ---- tests ------------------------------------------------------------------------------------ */

START_TEST(holds_what_was_written)
{
    struct stack stack = stack_new(subjects[_i], "a");

    check_all(stack.top, "new");
    random_steps(stack.top, 300);
    check_all(stack.top, "after random operations");
    stack_free(&stack);
}
END_TEST

START_TEST(never_calls_data_zeros)
{
    struct stack stack = stack_new(subjects[_i], "a");

    check_extents(stack.top);
    for (int round = 0; round < 10; round++) {
        random_steps(stack.top, 10);
        check_extents(stack.top);
    }
    stack_free(&stack);
}
END_TEST

START_TEST(keeps_content_over_a_restart)
{
    struct stack stack = stack_new(subjects[_i], "a");

    for (int round = 0; round < 4 && subjects[_i]->keeps; round++) {
        random_steps(stack.top, 40);
        ck_assert_int_eq(storage_flush(stack.top), 0);
        stack_free(&stack);
        stack = stack_open(subjects[_i], "a", round % 2 ? 0 : DRAFTER_STORAGE_CREATE);
        check_all(stack.top, "after a restart");
        check_extents(stack.top);
    }
    stack_free(&stack);
}
END_TEST

START_TEST(an_orderly_end_keeps_what_was_not_flushed)
{
    struct stack stack = stack_new(subjects[_i], "a");

    if (subjects[_i]->keeps) {
        random_steps(stack.top, 40);
        stack_free(&stack);
        stack = stack_open(subjects[_i], "a", 0);
        check_all(stack.top, "after a restart");
    }
    stack_free(&stack);
}
END_TEST

START_TEST(refuses_what_is_beyond_its_end)
{
    struct stack stack = stack_new(subjects[_i], "a");
    const struct drafter_storage_ops *ops = stack.top->plugin->ops;
    void *self = stack.top->data;
    uint8_t bytes[2 * PAGE] = {0};

    /* The plugin itself, past the adapter's own check. */
    ck_assert_uint_eq(ops->size(self), SIZE);
    ck_assert_int_eq(ops->pread(self, bytes, PAGE, SIZE - PAGE + 1), -EINVAL);
    ck_assert_int_eq(ops->pwrite(self, bytes, PAGE, SIZE - PAGE + 1), -EINVAL);
    ck_assert_int_eq(ops->pread(self, bytes, PAGE, UINT64_MAX - 10), -EINVAL);
    ck_assert_int_eq(ops->pwrite(self, bytes, PAGE, UINT64_MAX - 10), -EINVAL);
    ck_assert_int_eq(ops->zero(self, PAGE, SIZE), -EINVAL);
    ck_assert_int_eq(ops->trim(self, UINT64_MAX, 512), -EINVAL);
    ck_assert_int_eq(ops->pread(self, bytes, 0, SIZE), 0);
    ck_assert_int_eq(ops->pwrite(self, bytes, 0, SIZE), 0);
    ck_assert_int_eq(ops->zero(self, 0, SIZE), 0);
    check_all(stack.top, "after refused operations");
    stack_free(&stack);
}
END_TEST

START_TEST(a_part_of_a_page_leaves_the_rest)
{
    struct stack stack = stack_new(subjects[_i], "a");
    uint8_t bytes[512];

    for (uint64_t page = 0; page < SIZE / PAGE; page += 7) {
        uint64_t offset = page * PAGE + page % 8 * 512;

        conformance_fill(bytes, sizeof bytes, 99, offset);
        ck_assert_int_eq(storage_write(stack.top, bytes, sizeof bytes, offset), 0);
        memcpy(reference + offset, bytes, sizeof bytes);
    }
    check_all(stack.top, "after small writes");
    ck_assert_int_eq(storage_zero(stack.top, 512, 512), 0);
    memset(reference + 512, 0, 512);
    ck_assert_int_eq(storage_write(stack.top, bytes, 488, SIZE - 488), 0);
    memcpy(reference + SIZE - 488, bytes, 488);
    check_all(stack.top, "after a small zero, and a write at the end");
    stack_free(&stack);
}
END_TEST

START_TEST(a_trim_touches_nothing_else)
{
    struct stack stack = stack_new(subjects[_i], "a");

    random_steps(stack.top, 50);
    ck_assert_int_eq(storage_trim(stack.top, 5 * PAGE + 1024, 3 * PAGE + 512), 0);
    ck_assert_int_eq(storage_read(stack.top, reference + 3 * PAGE + 512, 5 * PAGE + 1024,
                                  3 * PAGE + 512),
                     0);
    check_all(stack.top, "after a trim");
    stack_free(&stack);
}
END_TEST

START_TEST(read_only_refuses_changes)
{
    struct stack stack = stack_new(subjects[_i], "a");
    uint8_t bytes[PAGE] = {1};

    stack_free(&stack);
    stack = stack_open(subjects[_i], "a", DRAFTER_STORAGE_READONLY);
    ck_assert_int_eq(storage_write(stack.top, bytes, PAGE, 0), -EROFS);
    ck_assert_int_eq(storage_zero(stack.top, PAGE, 0), -EROFS);
    ck_assert_int_eq(storage_trim(stack.top, PAGE, 0), -EROFS);
    ck_assert_int_eq(storage_flush(stack.top), 0);
    check_all(stack.top, "after refused writes");
    stack_free(&stack);
}
END_TEST

START_TEST(instances_do_not_mix)
{
    struct stack a = stack_new(subjects[_i], "a"), b = stack_new(subjects[_i], "b");
    uint8_t bytes[PAGE];

    conformance_fill(bytes, sizeof bytes, 1, 0);
    ck_assert_int_eq(storage_write(a.top, bytes, PAGE, PAGE), 0);
    check_all(b.top, "the other instance");
    stack_free(&a);
    check_all(b.top, "after the other ended");
    stack_free(&b);
}
END_TEST

START_TEST(ends_in_every_phase)
{
    struct stack stack = stack_make(subjects[_i], "a");
    struct drafter_error err = {0};
    uint8_t bytes[PAGE] = {1};

    stack_free(&stack); /* never opened */
    stack = stack_new(subjects[_i], "a");
    stack_free(&stack);
    stack = stack_open(subjects[_i], "a", DRAFTER_STORAGE_CREATE);
    ck_assert_int_eq(storage_write(stack.top, bytes, 512, 512), 0);
    stack_free(&stack);
    stack = stack_make(subjects[_i], "a");
    ck_assert_int_lt(storage_open(stack.top, SIZE + 512 * PAGE, 0, &err), 0); /* the wrong size */
    ck_assert_str_ne(err.message, "");
    stack_free(&stack);
}
END_TEST

START_TEST(creating_again_loses_nothing)
{
    struct stack stack = stack_new(subjects[_i], "a");

    if (subjects[_i]->keeps) {
        random_steps(stack.top, 40);
        stack_free(&stack);
        stack = stack_make(subjects[_i], "a");
        storage_must_open(stack.top, 512, DRAFTER_STORAGE_CREATE); /* at least that much */
        ck_assert_uint_eq(storage_size(stack.top), SIZE);
        check_all(stack.top, "after creating it smaller");
    }
    stack_free(&stack);
}
END_TEST

START_TEST(a_second_writer_is_refused)
{
    struct stack stack = stack_new(subjects[_i], "a");
    const struct subject *subject = subjects[_i];
    unsigned top = stack.count - 1;
    struct instance *second;
    struct drafter_error err = {0};

    if (subject->keeps && !subject->takes_over) {
        second = make_level(subject, top, "a", top ? stack.levels[top - 1] : NULL);
        conformance_expect_error(storage_open(second, SIZE, 0, &err), EBUSY, &err, "a.");
        instance_free(second);
        check_all(stack.top, "after a refused writer");
    }
    stack_free(&stack);
}
END_TEST

/* Thread k writes sector k of every page: first writes of one page at the same time. */
struct writer {
    struct instance *storage;
    unsigned number;
};

static void *write_sectors(void *argument)
{
    struct writer *writer = argument;
    uint8_t bytes[512];

    for (uint64_t page = 0; page < SIZE / PAGE; page++) {
        uint64_t offset = page * PAGE + writer->number * 512;

        conformance_fill(bytes, sizeof bytes, 5, offset);
        if (storage_write(writer->storage, bytes, sizeof bytes, offset) < 0)
            return writer;
        if (page % 50 == writer->number && storage_flush(writer->storage) < 0)
            return writer;
    }
    return NULL;
}

START_TEST(writers_of_one_page_do_not_undo_each_other)
{
    struct stack stack = stack_new(subjects[_i], "a");
    struct writer writers[8];
    pthread_t threads[8];

    for (unsigned i = 0; i < 8; i++) {
        writers[i] = (struct writer){stack.top, i};
        threads[i] = conformance_thread(write_sectors, &writers[i]);
    }
    for (unsigned i = 0; i < 8; i++)
        ck_assert_ptr_null(conformance_join(threads[i]));
    conformance_fill(reference, SIZE / PAGE * PAGE, 5, 0);
    check_all(stack.top, "after writers in parallel");
    if (subjects[_i]->keeps) {
        ck_assert_int_eq(storage_flush(stack.top), 0);
        stack_free(&stack);
        stack = stack_open(subjects[_i], "a", 0);
        check_all(stack.top, "after a restart");
    }
    stack_free(&stack);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, holds_what_was_written, 0, (int)subject_count);
    tcase_add_loop_test(tests, never_calls_data_zeros, 0, (int)subject_count);
    tcase_add_loop_test(tests, keeps_content_over_a_restart, 0, (int)subject_count);
    tcase_add_loop_test(tests, an_orderly_end_keeps_what_was_not_flushed, 0, (int)subject_count);
    tcase_add_loop_test(tests, refuses_what_is_beyond_its_end, 0, (int)subject_count);
    tcase_add_loop_test(tests, a_part_of_a_page_leaves_the_rest, 0, (int)subject_count);
    tcase_add_loop_test(tests, a_trim_touches_nothing_else, 0, (int)subject_count);
    tcase_add_loop_test(tests, read_only_refuses_changes, 0, (int)subject_count);
    tcase_add_loop_test(tests, instances_do_not_mix, 0, (int)subject_count);
    tcase_add_loop_test(tests, ends_in_every_phase, 0, (int)subject_count);
    tcase_add_loop_test(tests, creating_again_loses_nothing, 0, (int)subject_count);
    tcase_add_loop_test(tests, a_second_writer_is_refused, 0, (int)subject_count);
    tcase_add_loop_test(tests, writers_of_one_page_do_not_undo_each_other, 0, (int)subject_count);
}

static bool subject_built(const struct subject *subject)
{
    for (unsigned level = 0; level < 3 && subject->plugins[level]; level++) {
        if (!conformance_available(DRAFTER_KIND_STORAGE, subject->plugins[level]))
            return false;
        if (strcmp(subject->plugins[level], "s3") == 0 && !storage_s3_start())
            return false;
    }
    return true;
}

int main(void)
{
    Suite *suite = suite_create("storage");
    TCase *tests = tcase_create("contract");
    bool file, cow;

    for (unsigned i = 0; i < ALL_SUBJECTS; i++) {
        if (subject_built(&all_subjects[i]))
            subjects[subject_count++] = &all_subjects[i];
    }
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    add_tests(tests);
    suite_add_tcase(suite, tests);
    file = conformance_available(DRAFTER_KIND_STORAGE, "file");
    cow = conformance_available(DRAFTER_KIND_STORAGE, "cow");
    if (file)
        suite_add_tcase(suite, storage_file_case());
    if (file && cow)
        suite_add_tcase(suite, storage_cow_case());
    if (cow && conformance_available(DRAFTER_KIND_STORAGE, "package"))
        suite_add_tcase(suite, storage_package_case());
    if (conformance_available(DRAFTER_KIND_STORAGE, "s3") && storage_s3_start()) {
        suite_add_tcase(suite, storage_s3_case());
        suite_add_tcase(suite, storage_s3_object_case());
    }
    return conformance_run(suite, subject_count);
}
