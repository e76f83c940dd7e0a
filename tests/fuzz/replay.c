/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in for libFuzzer where that is not built in: runs a target once over each file of the
 * directories it is given, so that every input that ever failed is a test of every build.
 */
#include "util/cleanup.h"
#include "util/io.h"

#include <dirent.h>
#include <string.h>

#define INPUT_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *directory, const char *name)
{
    cleanup_free char *path = NULL, *data = NULL, *copy = NULL;
    struct drafter_error err = {0};
    size_t length;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return -ENOMEM;
    if (io_read_file(path, INPUT_MAX, &data, &length, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return -err.code;
    }
    /* Without the NUL that io_read_file adds, so that a sanitizer sees a read beyond the end. */
    copy = malloc(length ? length : 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, data, length);
    LLVMFuzzerTestOneInput((const uint8_t *)copy, length);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int found = scandir(argv[i], &entries, NULL, alphasort);

        if (found < 0) {
            perror(argv[i]);
            return 1;
        }
        for (int j = 0; j < found; j++) {
            if (entries[j]->d_name[0] != '.') {
                if (replay(argv[i], entries[j]->d_name) < 0)
                    return 1;
                count++;
            }
            free(entries[j]);
        }
        free(entries);
    }
    printf("%u inputs\n", count);
    return count == 0;
}
