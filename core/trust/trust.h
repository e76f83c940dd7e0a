/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may do what.  The trust file is an INI file with a section for each key that is trusted:
 *
 *     [key:host-b]
 *     identity = sha256:qYw0...        what `drafter keygen` printed there
 *     may = pull push                  rights; none: the key is known and may do nothing
 *     vms = web-*, db                  patterns of VM names of this node; default *
 *
 * Transports that know their peers let in whoever has a section; what the peer may then do is decided here,
 * where the VM is known.  The file is read for each decision, so that what is added or removed counts at
 * once; a file with a fault, or that anybody may write, trusts nobody.
 */
#ifndef TRUST_TRUST_H
#define TRUST_TRUST_H

#include "config/config.h"

#include <drafter/transport.h>

enum trust_right {
    TRUST_PULL,     /* take a VM or a package from here */
    TRUST_PUSH,     /* hand a running VM over to us */
    TRUST_REGISTRY, /* give us copies of packages */
    TRUST_CONTROL,  /* give orders to this node */
    TRUST_RIGHTS,
};

#define TRUST_DEFAULT_FILE "/etc/drafter/trust.ini"

/*
 * The trust file of this process, for drafter_trust_find and trust_check.  To be set before threads use
 * them; the text is copied.
 */
void trust_use(const char *path);
const char *trust_path(void);

/*
 * Whether the peer of this identity may do that to VM `vm` of ours: 0, or -EACCES with a sentence that
 * says by which rule; `vm` NULL: to some VM.  An empty identity, of a transport that does not know its
 * peers, passes: plain
 * transports have a rule of their own, trust_check_plain.
 */
int trust_check(const char *identity, enum trust_right right, const char *vm,
                struct drafter_error *err);

/* "pull", ... */
const char *trust_right_name(enum trust_right right);

/* A set of rights (1 << right) from words with blanks or commas between them. */
int trust_parse_rights(const char *text, unsigned *ret_rights, struct drafter_error *err);

/* What identities look like: "sha256:" with 44 characters of base64, or "psk:NAME". */
bool trust_identity_valid(const char *identity);

/* One section, for `drafter trust list`. */
struct trust_key {
    const char *name, *identity, *may, *vms;
};

/* Refuses a file that anybody may write: its rules are nobody's.  One that is not there is fine. */
int trust_check_mode(const char *path, struct drafter_error *err);

/* Whether the whole file makes sense, and how many keys are in it. */
int trust_verify(const char *path, unsigned *ret_keys, struct drafter_error *err);

/* Calls `visit` for each section; a negative return of it, or a fault in the file, ends that. */
int trust_visit(const char *path,
                int (*visit)(void *opaque, const struct trust_key *key, struct drafter_error *err),
                void *opaque, struct drafter_error *err);

/* Adds a section, or removes one; the file is replaced as a whole, and stays whose it is. */
int trust_add(const char *path, const struct trust_key *key, struct drafter_error *err);
int trust_remove(const char *path, const char *name, struct drafter_error *err);

#endif
