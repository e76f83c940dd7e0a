/* SPDX-License-Identifier: BSD-2-Clause */
/* The trust file: who may do what, and by which rule not. */
#include "trust/keygen.h"
#include "trust/trust.h"
#include "unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define A "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define B "sha256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="

static char *directory, *path;
static struct drafter_error err;

static void setup(void)
{
    directory = unit_make_directory();
    path = unit_path(directory, "trust.ini");
    trust_use(path);
    err = (struct drafter_error){0};
}

static void teardown(void)
{
    free(path);
    unit_drop_directory(directory);
}

static void write_text(const char *text)
{
    ck_assert_int_eq(io_replace_file(path, text, strlen(text), 0600, NULL), 0);
}

static void expect_refused(const char *identity, enum trust_right right, const char *vm,
                           const char *fragment)
{
    err = (struct drafter_error){0};
    ck_assert_int_eq(trust_check(identity, right, vm, &err), -EACCES);
    ck_assert_int_eq(err.code, EACCES);
    ck_assert_msg(strstr(err.message, fragment), "\"%s\" does not say \"%s\"", err.message, fragment);
}

START_TEST(rights_are_for_the_vms_that_match)
{
    write_text("[key:a]\nidentity = " A "\nmay = pull, registry\nvms = web-*, db\n"
               "[key:b]\nidentity = psk:node\nmay = push\n");
    ck_assert_int_eq(trust_check(A, TRUST_PULL, "web-1", &err), 0);
    ck_assert_int_eq(trust_check(A, TRUST_REGISTRY, "db", &err), 0);
    ck_assert_int_eq(trust_check("psk:node", TRUST_PUSH, "anything", &err), 0);
    expect_refused(A, TRUST_PULL, "db2", "a may pull, but not VM db2");
    expect_refused(A, TRUST_PULL, "db2", "trust.ini:4: vms = web-*, db");
    expect_refused(A, TRUST_PUSH, "db", "trust.ini:3: may = pull, registry");
    expect_refused("psk:node", TRUST_CONTROL, "db", "b may not control VM db");
    expect_refused(B, TRUST_PULL, "db", "has no key " B);
}
END_TEST

START_TEST(a_transport_that_knows_nobody_is_not_asked)
{
    ck_assert_int_eq(trust_check("", TRUST_PULL, "web", &err), 0);
}
END_TEST

START_TEST(without_a_file_nobody_is_trusted)
{
    char name[64];

    expect_refused(A, TRUST_PULL, "web", path);
    ck_assert_int_lt(drafter_trust_find(A, name, sizeof(name)), 0);
}
END_TEST

START_TEST(one_mistake_anywhere_means_that_nobody_is_trusted)
{
    static const char *const mistakes[] = {"may = pull push fly\n", "mai = pull\n", "identity = x\n",
                                           "[keys:c]\n", "vms\n"};
    char *text = NULL, name[64];

    ck_assert_int_gt(asprintf(&text, "[key:a]\nidentity = " A "\nmay = pull\n[key:b]\n%s%s",
                              _i == 2 ? "" : "identity = " B "\n", mistakes[_i]), 0);
    write_text(text);
    free(text);
    ck_assert_int_lt(drafter_trust_find(A, name, sizeof(name)), 0);
    expect_refused(A, TRUST_PULL, "web", "trust.ini");
}
END_TEST

START_TEST(a_file_that_anybody_may_write_trusts_nobody)
{
    char name[64];

    write_text("[key:a]\nidentity = " A "\nmay = pull\n");
    ck_assert_int_eq(chmod(path, 0664), 0);
    ck_assert_int_eq(trust_check(A, TRUST_PULL, "web", &err), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    expect_refused(A, TRUST_PULL, "web", "chmod o-w");
    ck_assert_int_ne(drafter_trust_find(A, name, sizeof(name)), 0);
}
END_TEST

START_TEST(keys_are_added_found_and_removed)
{
    const struct trust_key a = {.name = "a", .identity = A, .may = "pull push", .vms = "*"};
    const struct trust_key b = {.name = "b", .identity = B, .may = "", .vms = "db"};
    char name[64] = "";
    struct stat status;

    ck_assert_int_eq(trust_add(path, &a, &err), 0);
    ck_assert_int_eq(trust_add(path, &b, &err), 0);
    ck_assert_int_eq(trust_add(path, &b, &err), -EEXIST);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(drafter_trust_find(B, name, sizeof(name)), 0);
    ck_assert_str_eq(name, "b");
    ck_assert_int_eq(trust_remove(path, "a", &err), 0);
    ck_assert_int_eq(trust_remove(path, "a", &err), -ENOENT);
    ck_assert_int_eq(drafter_trust_find(A, name, sizeof(name)), -ENOENT);
    ck_assert_int_eq(drafter_trust_find(B, name, sizeof(name)), 0);
}
END_TEST

/* Comments directly above a section are of that section; those of the file stay. */
START_TEST(removing_keeps_the_rest_as_it_was_written)
{
    static const struct {
        const char *name, *before, *after;
    } files[] = {
        {"a", "; hosts\n[key:a]\nidentity = " A "\n; of b\n[key:b] ; second\nidentity = " B "\n",
         "; hosts\n; of b\n[key:b] ; second\nidentity = " B "\n"},
        {"a", "; hosts\n\n; of a\n# too\n[key:a]\nidentity = " A "\n; in a\n\n # of b\n; too\n[key:b]\n"
              "identity = " B "\n",
         "; hosts\n\n # of b\n; too\n[key:b]\nidentity = " B "\n"},
        {"b", "[key:a]\nidentity = " A "\n; of b\n[key:b]\nidentity = " B "\n; in b\n", "[key:a]\nidentity = " A "\n"},
        {"a", "[key:a]\n; of b\n[key:b]\nidentity = " B "\n", "; of b\n[key:b]\nidentity = " B "\n"},
        {"a", "[key:a]", ""},
    };
    char *text = NULL;
    size_t length;

    write_text(files[_i].before);
    ck_assert_int_eq(trust_remove(path, files[_i].name, &err), 0);
    ck_assert_int_eq(io_read_file(path, 4096, &text, &length, NULL), 0);
    ck_assert_str_eq(text, files[_i].after);
    free(text);
}
END_TEST

/* How often `text` is in what drafter_trust_find says, asked a hundred times. */
static unsigned count_complaints(const char *text)
{
    char *file = unit_path(directory, "said"), name[64], *said = NULL;
    int saved = dup(STDERR_FILENO), fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    unsigned count = 0;
    size_t length;

    ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
    for (int i = 0; i < 100; i++)
        ck_assert_int_lt(drafter_trust_find(A, name, sizeof(name)), 0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    ck_assert_int_eq(io_read_file(file, 1 << 20, &said, &length, NULL), 0);
    for (const char *at = said; (at = strstr(at, text)); at++)
        count++;
    free(said);
    free(file);
    return count;
}

/* Anybody who connects makes us read the file. */
START_TEST(a_fault_of_the_file_is_told_once_and_another_one_at_once)
{
    write_text("[keys:a]\n");
    ck_assert_uint_eq(count_complaints("nobody is trusted: "), 1);
    ck_assert_uint_eq(count_complaints("nobody is trusted: "), 0);
    write_text("[key:a]\nidentity = x\n");
    ck_assert_uint_eq(count_complaints("is no identity"), 1);
}
END_TEST

START_TEST(what_would_break_the_file_is_not_written)
{
    static const struct trust_key keys[] = {
        {"a]\n[key:b", A, "", "*"}, {"", A, "", "*"},         {"a", "sha256:short", "", "*"},
        {"a", A, "fly", "*"},       {"a", A, "pull\nx", "*"}, {"a", A, "", "web\n[key:b]"},
        {"a b", A, "", "*"},        {"a", "psk:", "", "*"},   {"a", "psk:x\n[key:b]", "", "*"},
        {"a", "psk:\x7f", "", "*"}, {"a", A, "", ""},         {"a", A, "", " ,"},
    };

    ck_assert_int_eq(trust_add(path, &keys[_i], &err), -EINVAL);
    ck_assert_int_lt(access(path, F_OK), 0);
}
END_TEST

START_TEST(keygen_writes_a_secret_and_replaces_nothing)
{
    char identity[DRAFTER_IDENTITY_SIZE], *key = unit_path(directory, "node");
    char *file = unit_path(directory, "node.key");
    struct stat status;

    umask(0);
    ck_assert_msg(keygen_write(key, identity, &err) == 0, "%s", err.message);
    ck_assert(trust_identity_valid(identity));
    ck_assert_int_eq(stat(file, &status), 0);
    ck_assert_int_eq(status.st_mode & 0777, 0600);
    ck_assert_int_eq(keygen_write(key, identity, &err), -EEXIST);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(keygen_write(key, identity, &err), -EEXIST); /* the others are there */
    ck_assert_int_lt(access(file, F_OK), 0);
    free(file);
    free(key);
}
END_TEST

/* What is in force is then the first section or nothing, and not what somebody meant. */
START_TEST(changes_at_one_time_lose_nothing)
{
    enum { CHANGES = 8 };
    pid_t children[CHANGES];
    unsigned keys;
    int status;

    for (unsigned i = 0; i < CHANGES; i++) {
        char name[8], identity[16];
        const struct trust_key key = {.name = name, .identity = identity, .may = "", .vms = "*"};

        snprintf(name, sizeof(name), "k%u", i);
        snprintf(identity, sizeof(identity), "psk:%s", name);
        children[i] = fork();
        ck_assert_int_ge(children[i], 0);
        if (!children[i])
            _exit(trust_add(path, &key, NULL) != 0);
    }
    for (unsigned i = 0; i < CHANGES; i++) {
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(trust_verify(path, &keys, &err), 0);
    ck_assert_uint_eq(keys, CHANGES);
}
END_TEST

START_TEST(a_key_that_is_there_twice_is_a_mistake)
{
    char name[64];
    unsigned keys;

    write_text("[key:a]\nidentity = " A "\nmay = pull\n[key:c]\nidentity = " B "\n[key:b]\nidentity = " A
               "\nmay = pull\nvms = db\n");
    expect_refused(A, TRUST_PULL, "web", "trust.ini:7: the key is there already, as a");
    ck_assert_int_lt(drafter_trust_find(A, name, sizeof(name)), 0);
    ck_assert_int_eq(trust_verify(path, &keys, &err), -EINVAL);
    ck_assert_int_eq(trust_remove(path, "b", &err), 0);
    ck_assert_int_eq(trust_verify(path, &keys, &err), 0);
    ck_assert_uint_eq(keys, 2);
    ck_assert_int_eq(trust_check(A, TRUST_PULL, "web", &err), 0);
}
END_TEST

/* Lines that anybody may have written must not be made good by a change of another one. */
START_TEST(a_file_with_a_fault_is_neither_shown_nor_added_to)
{
    const struct trust_key b = {.name = "b", .identity = B, .may = "", .vms = "db"};
    unsigned keys;

    write_text(_i ? "[keys:a]\nidentity = " A "\n" : "[key:a]\nidentity = " A "\nmay = pull\n");
    ck_assert_int_eq(chmod(path, _i ? 0600 : 0606), 0);
    ck_assert_int_lt(trust_verify(path, &keys, &err), 0);
    ck_assert_int_lt(trust_add(path, &b, &err), 0);
    if (!_i)
        ck_assert_int_eq(trust_remove(path, "a", &err), -EACCES);
    expect_refused(A, TRUST_PULL, "web", "trust.ini");
}
END_TEST

START_TEST(a_change_leaves_the_file_to_those_who_could_read_it)
{
    const struct trust_key b = {.name = "b", .identity = B, .may = "", .vms = "db"};
    struct stat status;

    write_text("[key:a]\nidentity = " A "\n");
    ck_assert_int_eq(chmod(path, 0640), 0);
    if (!geteuid())
        ck_assert_int_eq(chown(path, 12, 34), 0);
    ck_assert_int_eq(trust_add(path, &b, &err), 0);
    ck_assert_int_eq(trust_remove(path, "a", &err), 0);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0640);
    if (!geteuid()) {
        ck_assert_uint_eq(status.st_uid, 12);
        ck_assert_uint_eq(status.st_gid, 34);
    }
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, rights_are_for_the_vms_that_match);
    tcase_add_test(tests, a_transport_that_knows_nobody_is_not_asked);
    tcase_add_test(tests, without_a_file_nobody_is_trusted);
    tcase_add_loop_test(tests, one_mistake_anywhere_means_that_nobody_is_trusted, 0, 5);
    tcase_add_test(tests, a_file_that_anybody_may_write_trusts_nobody);
    tcase_add_test(tests, keys_are_added_found_and_removed);
    tcase_add_loop_test(tests, removing_keeps_the_rest_as_it_was_written, 0, 5);
    tcase_add_test(tests, a_fault_of_the_file_is_told_once_and_another_one_at_once);
    tcase_add_loop_test(tests, what_would_break_the_file_is_not_written, 0, 12);
    tcase_add_test(tests, changes_at_one_time_lose_nothing);
    tcase_add_test(tests, a_key_that_is_there_twice_is_a_mistake);
    tcase_add_loop_test(tests, a_file_with_a_fault_is_neither_shown_nor_added_to, 0, 2);
    tcase_add_test(tests, a_change_leaves_the_file_to_those_who_could_read_it);
    tcase_add_test(tests, keygen_writes_a_secret_and_replaces_nothing);
}

int main(void)
{
    return unit_run("trust", add_tests);
}
