# SPDX-License-Identifier: BSD-2-Clause
"""Frames as core/doc/protocol.md has them, and a relay between two nodes that sees each and may change what it likes."""

import contextlib
import ctypes
import ctypes.util
import dataclasses
import json
import socket
import struct
import sys
import threading

HELLO, OFFER, ACCEPT, ABORT, JOIN, PASS, COMMIT, HASHES, CUSTOM, DATA, NEED = 1, 2, 3, 4, 5, 7, 10, 18, 20, 32, 36
HEADER = "<IHHIIQQI"
HEADER_SIZE = 48
MAGIC = 0x32465244


def load_checksum():
    name = ctypes.util.find_library("xxhash")
    if not name:
        print("skipped: libxxhash is not found")
        sys.exit(77)
    function = ctypes.CDLL(name).XXH3_64bits_withSeed
    function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    return function


checksum = load_checksum()


@dataclasses.dataclass
class Frame:
    kind: int
    payload: bytes = b""
    device: int = 0
    generation: int = 0
    offset: int = 0
    argument: int = 0


def encode(seed, sequence, kind, payload=b"", device=0, generation=0, offset=0, argument=0, length=None):
    length = len(payload) if length is None else length
    head = struct.pack(HEADER, MAGIC, kind, device, length, generation, offset, argument, sequence)
    head += struct.pack("<I", checksum(head, len(head), seed) & 0xffffffff)
    digest = checksum(head, len(head), seed)
    if payload:
        digest = checksum(payload, len(payload), digest)
    return head + struct.pack("<Q", digest) + payload


def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_frame(stream):
    _, kind, device, length, generation, offset, argument, _ = struct.unpack_from(HEADER, read_exactly(stream, HEADER_SIZE))
    return Frame(kind, read_exactly(stream, length), device, generation, offset, argument)


class Relay:
    """Listens at `path` for destinations of the source at `to`.  `edit(forth, control, frame)` says which frames take the
    place of one: `forth` is towards the destination, `control` that the stream is the control stream."""

    def __init__(self, path, to, edit):
        self.to, self.edit, self.seed, self.ends = to, edit, 0, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, far = self.listener.accept()[0], socket.socket(socket.AF_UNIX)
                self.ends += [near, far]
                far.connect(self.to)
                opening = read_frame(near)
                control = opening.kind == HELLO
                far.sendall(encode(0, 0, **dataclasses.asdict(opening)))
                self.pump(near, far, False, control, 1)
                self.pump(far, near, True, control, 0)

    def pump(self, *words):
        threading.Thread(target=self.carry, args=words, daemon=True).start()

    def carry(self, inward, outward, forth, control, sequence):
        with contextlib.suppress(OSError, EOFError):
            while True:
                frame = read_frame(inward)
                greeting = forth and control and not sequence
                if frame.kind == OFFER:
                    token = bytes.fromhex(json.loads(frame.payload)["token"])
                    self.seed = struct.unpack("<Q", token[:8])[0]
                for sent in self.edit(forth, control, frame):
                    outward.sendall(encode(0 if greeting and not sequence else self.seed, sequence, **dataclasses.asdict(sent)))
                    sequence += 1
        for end in (inward, outward):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        """All links break, and no other comes."""
        for end in [self.listener, *self.ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
