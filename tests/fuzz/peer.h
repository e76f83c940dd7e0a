/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A peer that says what a fuzz input says, over a transport that exists only here, and devices in
 * memory.  An input is a list of operations, each one frame:
 *
 *   0 stream (bits 0-1: control, demand, two bulk streams), 2: after the link broke, 7: send it raw
 *   1 type  2 device  3 generation  4 offset in pages
 *   5 argument: 255 the expected one (last mark, epoch, whole range), else in pages; 254: huge
 *   6 wait until the engine said a frame of this type (0: do not), but not for long
 *   7 length of the payload that follows; bit 7: so many pages of a pattern instead
 *
 * Unless raw, the frame gets the right sequence and checksum, so that it gets past them.
 */
#ifndef FUZZ_PEER_H
#define FUZZ_PEER_H

#include "block/device.h"
#include "migrate/stream.h"

#define PEER_STREAMS 4
#define PEER_LINKS 2
#define PEER_DEVICES 2
#define PEER_EPOCH 5

struct peer;

struct peer *peer_new(const uint8_t *data, size_t size, uint64_t seed);
void peer_free(struct peer *peer);

/* A frame that comes before the input's on the control stream of a link; the text is copied. */
void peer_say_first(struct peer *peer, unsigned link, unsigned type, uint64_t argument,
                    const char *text, bool seeded);

/* What connects to the peer; and connections for an engine that is connected to. */
struct instance *peer_transport(struct peer *peer);
struct stream *peer_stream(struct peer *peer, unsigned link, unsigned index);

/* The seed once the session has its token. */
void peer_set_seed(struct peer *peer, uint64_t seed);

/* Waits up to `ms` until a link's control stream has nothing more to say. */
bool peer_finished(struct peer *peer, unsigned link, unsigned ms);
/* Has the engine said a frame of this type? */
bool peer_heard(struct peer *peer, unsigned type);
/* Called for each frame that the engine sends; set before it starts. */
void peer_on_frame(struct peer *peer, void (*heard)(void *opaque, unsigned type), void *opaque);

/* A device in memory, filled with a pattern. */
struct instance *peer_storage(uint64_t size);
void peer_storage_free(struct instance *storage);

#endif
