/* SPDX-License-Identifier: BSD-2-Clause */
/* A node's devices: what is read from the configuration, received into, kept and removed. */
#include "unit.h"

#include "role/devices.h"

#include <sys/stat.h>

#define SIZE 10000

static char *directory;
static struct node node;
static struct devices devices;
static struct drafter_error err;

/* Opens a node of these sections; DIR in them is the test's directory. */
static int open_node(const char *sections)
{
    cleanup_free char *text = NULL, *copy = strdup(sections);
    struct config *config;
    char *rest = copy, *part;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    int rc;

    fprintf(stream, "[drafter]\nname = unit\nrun-directory = %s/run\n", directory);
    while ((part = strstr(rest, "DIR"))) {
        fprintf(stream, "%.*s%s", (int)(part - rest), rest, directory);
        rest = part + 3;
    }
    fprintf(stream, "%s", rest);
    fclose(stream);
    ck_assert_msg(!config_parse(text, length, "unit.ini", &config, &err), "%s", err.message);
    rc = node_open(config, &node, &err);
    return rc ? rc : devices_read(&node, &devices, &err);
}

static void setup(void)
{
    directory = unit_make_directory();
    node.lock = -1;
}

static void teardown(void)
{
    devices_release(&devices);
    node_close(&node);
    unit_drop_directory(directory);
}

static void put_file(const char *name, size_t size, char filling)
{
    cleanup_free char *path = unit_path(directory, name), *bytes = malloc(size + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    memset(bytes, filling, size);
    ck_assert_int_eq(io_write_full(fd, bytes, size), 0);
    close(fd);
}

static bool file_exists(const char *name)
{
    cleanup_free char *path = unit_path(directory, name);

    return access(path, F_OK) == 0;
}

static char first_byte(struct block_device *block)
{
    char byte;

    ck_assert_int_eq(block_device_read(block, &byte, 1, 0), 0);
    return byte;
}

static void expect_text(const char *text)
{
    ck_assert_msg(strstr(err.message, text), "\"%s\" does not say \"%s\"", err.message, text);
}

START_TEST(devices_are_read_in_the_order_of_the_file)
{
    ck_assert_int_eq(open_node("[device:memory]\nbase = DIR/m\n[device:disk]\nbase = DIR/d\n"), 0);
    ck_assert_uint_eq(devices.count, 2);
    ck_assert_str_eq(devices.list[0].name, "memory");
    ck_assert_ptr_eq(devices_find(&devices, "disk"), &devices.list[1]);
    ck_assert_ptr_null(devices_find(&devices, "tape"));
}
END_TEST

START_TEST(the_originals_limits_count_only_when_one_is_set)
{
    ck_assert_int_eq(
        open_node("[device:a]\nbase = DIR/a\n[device:b]\nbase = DIR/b\nmin-cycles = 7\n"), 0);
    ck_assert(!devices_limits(&devices.list[0]).set);
    ck_assert(devices_limits(&devices.list[1]).set);
    ck_assert_uint_eq(devices_limits(&devices.list[1]).min_cycles, 7);
    ck_assert_uint_eq(devices_limits(&devices.list[1]).max_dirty_blocks, 200);
}
END_TEST

START_TEST(an_arriving_device_is_made_and_removed_again)
{
    ck_assert_int_eq(open_node("[device:disk]\nbase = DIR/disk\n"), 0);
    ck_assert_int_eq(devices_open_arriving(&node, &devices.list[0], SIZE, false, &err), 0);
    ck_assert_uint_eq(devices.list[0].block.size, SIZE);
    ck_assert(devices.list[0].block.fresh);
    ck_assert(file_exists("disk"));
    devices_discard(&devices);
    ck_assert(!file_exists("disk"));
}
END_TEST

START_TEST(a_file_with_content_is_not_overwritten_unless_asked)
{
    put_file("disk", SIZE, 'x');
    ck_assert_int_eq(open_node("[device:disk]\nbase = DIR/disk\n"), 0);
    ck_assert_int_eq(devices_open_arriving(&node, &devices.list[0], SIZE, false, &err), -EEXIST);
    expect_text("overwrite = yes");
    ck_assert_int_eq(devices_open_arriving(&node, &devices.list[0], SIZE, true, &err), 0);
    ck_assert(!devices.list[0].block.fresh);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'x');
    devices_discard(&devices);
    ck_assert(file_exists("disk")); /* it was not ours to remove */
}
END_TEST

START_TEST(a_file_of_another_size_is_started_anew)
{
    put_file("disk", SIZE + 5000, 'x');
    ck_assert_int_eq(open_node("[device:disk]\nbase = DIR/disk\n"), 0);
    ck_assert_int_eq(devices_open_arriving(&node, &devices.list[0], SIZE, true, &err), 0);
    ck_assert_uint_eq(devices.list[0].block.size, SIZE);
    ck_assert(devices.list[0].block.fresh);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 0);
}
END_TEST

START_TEST(a_base_below_an_overlay_stays_as_it_is)
{
    cleanup_free char *path = unit_path(directory, "base");
    char byte = 0;
    int fd;

    put_file("base", SIZE, 'x');
    ck_assert_int_eq(
        open_node("[device:disk]\nbase = DIR/base\noverlay = DIR/over\nstate = DIR/state\n"), 0);
    ck_assert_msg(!devices_open_arriving(&node, &devices.list[0], SIZE, false, &err), "%s",
                  err.message);
    ck_assert(devices.list[0].filled);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'x');
    ck_assert_int_eq(block_device_write(&devices.list[0].block, "y", 1, 0), 0);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'y');
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    close(fd);
    ck_assert_int_eq(byte, 'x');
    devices_discard(&devices);
    ck_assert(file_exists("base") && !file_exists("over") && !file_exists("state"));
}
END_TEST

START_TEST(overlays_and_states_come_in_pairs)
{
    put_file("base", SIZE, 'x');
    ck_assert_int_eq(open_node("[device:disk]\nbase = DIR/base\noverlay = DIR/a DIR/b\n"
                               "state = DIR/s\n"),
                     0);
    ck_assert_int_eq(devices_open_local(&node, &devices, false, &err), -EINVAL);
    expect_text("equally many");
}
END_TEST

START_TEST(a_local_device_needs_a_base_that_is_there)
{
    ck_assert_int_eq(open_node("[device:disk]\n"), 0);
    ck_assert_int_eq(devices_open_local(&node, &devices, false, &err), -EINVAL);
    expect_text("device disk needs a base");
}
END_TEST

START_TEST(a_shared_device_cannot_be_written)
{
    put_file("base", SIZE, 'x');
    ck_assert_int_eq(open_node("[device:disk]\nbase = DIR/base\nshared = yes\n"), 0);
    ck_assert_int_eq(devices_open_local(&node, &devices, false, &err), 0);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'x');
    ck_assert_int_eq(block_device_write(&devices.list[0].block, "y", 1, 0), -EROFS);
}
END_TEST

START_TEST(a_second_node_of_the_name_is_refused)
{
    struct node other;
    struct config *config;
    cleanup_free char *text = NULL;

    ck_assert_int_eq(open_node(""), 0);
    ck_assert_int_gt(asprintf(&text, "[drafter]\nname = unit\nrun-directory = %s/run\n", directory),
                     0);
    ck_assert_int_eq(config_parse(text, strlen(text), "other.ini", &config, &err), 0);
    ck_assert_int_eq(node_open(config, &other, &err), -EBUSY);
    expect_text("another drafter uses it");
    ck_assert(file_exists("run/unit")); /* it is still the first one's */
}
END_TEST

START_TEST(an_instance_is_made_once)
{
    struct instance *one, *two;

    ck_assert_int_eq(open_node("[storage:scratch]\nplugin = null\nsize = 64k\n"), 0);
    ck_assert_int_eq(node_instance(&node, DRAFTER_KIND_STORAGE, "scratch", &one, &err), 0);
    ck_assert_int_eq(node_instance(&node, DRAFTER_KIND_STORAGE, "scratch", &two, &err), 0);
    ck_assert_ptr_eq(one, two);
    ck_assert_int_eq(node_instance(&node, DRAFTER_KIND_STORAGE, "null", &two, &err), 0);
    ck_assert_ptr_ne(one, two);
}
END_TEST

START_TEST(layers_in_a_circle_are_refused)
{
    struct instance *instance;

    ck_assert_int_eq(open_node("[storage:a]\nplugin = null\nnext = b\n"
                               "[storage:b]\nplugin = null\nnext = a\n"),
                     0);
    ck_assert_int_lt(node_instance(&node, DRAFTER_KIND_STORAGE, "a", &instance, &err), 0);
    expect_text("circle");
}
END_TEST

START_TEST(a_layer_opens_what_is_below)
{
    char byte = 'n';

    put_file("base", SIZE, 'b');
    ck_assert_int_eq(open_node("[storage:below]\nplugin = file\npath = DIR/base\n"
                               "[storage:layer]\nplugin = cow\nnext = below\n"
                               "overlay = DIR/overlay\nstate = DIR/state\n"
                               "[device:disk]\nstorage = layer\n"),
                     0);
    ck_assert_msg(!devices_open_local(&node, &devices, false, &err), "%s", err.message);
    ck_assert_uint_eq(devices.list[0].block.size, SIZE);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'b');
    ck_assert_int_eq(block_device_write(&devices.list[0].block, &byte, 1, 0), 0);
    ck_assert_int_eq(first_byte(&devices.list[0].block), 'n');
}
END_TEST

START_TEST(a_layer_does_not_make_up_its_base)
{
    ck_assert_int_eq(open_node("[storage:below]\nplugin = file\npath = DIR/base\n"
                               "[storage:layer]\nplugin = cow\nnext = below\n"
                               "overlay = DIR/overlay\nstate = DIR/state\n"
                               "[device:disk]\nstorage = layer\n"),
                     0);
    ck_assert_int_eq(devices_open_local(&node, &devices, false, &err), -ENOENT);
    expect_text("base: cannot open");
    ck_assert(!file_exists("base"));
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, devices_are_read_in_the_order_of_the_file);
    tcase_add_test(tests, the_originals_limits_count_only_when_one_is_set);
    tcase_add_test(tests, an_arriving_device_is_made_and_removed_again);
    tcase_add_test(tests, a_file_with_content_is_not_overwritten_unless_asked);
    tcase_add_test(tests, a_file_of_another_size_is_started_anew);
    tcase_add_test(tests, a_base_below_an_overlay_stays_as_it_is);
    tcase_add_test(tests, overlays_and_states_come_in_pairs);
    tcase_add_test(tests, a_local_device_needs_a_base_that_is_there);
    tcase_add_test(tests, a_shared_device_cannot_be_written);
    tcase_add_test(tests, a_second_node_of_the_name_is_refused);
    tcase_add_test(tests, an_instance_is_made_once);
    tcase_add_test(tests, layers_in_a_circle_are_refused);
    tcase_add_test(tests, a_layer_opens_what_is_below);
    tcase_add_test(tests, a_layer_does_not_make_up_its_base);
}

int main(void)
{
    if (!getenv("DRAFTER_PLUGIN_PATH")) {
        printf("skipped: DRAFTER_PLUGIN_PATH names no plugins\n");
        return 77;
    }
    return unit_run("devices", add_tests);
}
