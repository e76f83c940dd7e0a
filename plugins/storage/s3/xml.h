/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The little XML that S3 answers with: the text of elements by name, wherever they are.  No document is
 * built; what the server says is data and bounded by the caller.
 */
#ifndef S3_XML_H
#define S3_XML_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Copies the text of the first element `name` of `xml`, entities resolved, to `text`; false when there is
 * none or it does not fit.  Returns what follows the element through *ret_rest where that is not NULL.
 */
bool xml_find(const char *xml, size_t length, const char *name, char *text, size_t size,
              const char **ret_rest);

/* The same without the rest. */
bool xml_text(const char *xml, size_t length, const char *name, char *text, size_t size);

#endif
