#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Peers that lie, stall or flood, written from core/doc/protocol.md alone: the VM runs on, and the node ends when told to.
Over a plain transport, and by one that has a key that may pull."""

import json
import os
import socket
import ssl
import struct
import tempfile
import time

import nodelab
from nodelab import PATIENCE
from wirelib import ABORT, ACCEPT, DATA, HASHES, HELLO, JOIN, NEED, OFFER, PASS, encode, read_exactly, read_frame

MEMORY_MAX = 64 << 20  # bytes that hostile peers may cost a node, all at once; sanitizers free late
proof = None  # the TLS context that shows our key, when that is wanted


class Stream:
    def __init__(self, path, token=None, index=0):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        if proof:
            self.socket = proof.wrap_socket(self.socket)
        self.seed = self.sequence = 0
        if token:
            self.send(JOIN, token, argument=index)
            self.seed = struct.unpack("<Q", token[:8])[0]

    def frame(self, kind, payload=b"", **fields):
        return encode(self.seed, self.sequence, kind, payload, **fields)

    def send(self, kind, payload=b"", **fields):
        self.socket.sendall(self.frame(kind, payload, **fields))
        self.sequence += 1

    def receive(self):
        found = read_frame(self.socket)
        return found.kind, found.payload

    def ends(self):
        """The other side has ended it."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True


def hello(**fields):
    return json.dumps({"protocol": 2, "role": "peer", "software": "test", "vm": "", "requires": [], **fields}).encode()


def greet(path):
    control = Stream(path)
    control.send(HELLO, hello())
    kind, payload = control.receive()
    assert kind == OFFER, (kind, payload)
    token = bytes.fromhex(json.loads(payload)["token"])
    control.seed = struct.unpack("<Q", token[:8])[0]
    return control, token


def a_stream_too_many(path):
    """A JOIN beyond what ACCEPT named, and a second ACCEPT, end at most their session."""
    control, token = greet(path)
    control.send(ACCEPT, b'{"bulk_streams": 1}')
    streams = [Stream(path, token, index) for index in (1, 2)]
    assert read_exactly(streams[1].socket, 48), "the pass begins"
    assert Stream(path, token, 15).ends()
    control.send(ACCEPT, b'{"bulk_streams": 14}')
    assert control.ends()


def a_stream_that_is_not_announced(path):
    control, token = greet(path)
    early = Stream(path, token, 15)
    control.send(ACCEPT, b'{"bulk_streams": 1}')
    control.socket.close()
    assert early.ends()


def frames_that_lie(path):
    for payload in (b"", b"[" * 60000, b'{"protocol": 1}', hello(requires=["magic"]), hello(vm="another"), hello(token="00" * 16)):
        stream = Stream(path)
        stream.send(HELLO, payload)
        kind, _ = stream.receive()
        assert kind == ABORT and stream.ends(), payload
    for frame in ((HELLO, b"{}", {"length": 0xFFFFFFFF}), (JOIN, b"x" * 16, {"argument": 2}), (DATA, b"x", {}), (99, b"", {})):
        stream = Stream(path)
        stream.send(frame[0], frame[1], **frame[2])
        assert stream.ends(), frame
    for size in range(0, 200, 7):
        stream = Stream(path)
        stream.socket.sendall(os.urandom(size))
        stream.socket.shutdown(socket.SHUT_WR)
        assert stream.ends()


def push(stream, kind, payload=b"", **fields):
    """As many such frames as it takes for a while."""
    stream.socket.settimeout(0.2)
    deadline = time.monotonic() + 0.3
    try:
        while time.monotonic() < deadline:
            stream.send(kind, payload, **fields)
    except (TimeoutError, ConnectionError, ssl.SSLError):
        pass


def greet_again(path):
    """The session before may be kept for a while."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return greet(path)
        except AssertionError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def floods(path):
    """More of everything than anybody takes, and nothing of what is sent is read."""
    held = [Stream(path) for _ in range(40)]
    for stream in held:
        stream.socket.sendall(stream.frame(HELLO, hello())[:40])
    for stream in held:
        stream.socket.close()
    for kind, payload in ((HASHES, bytes(1 << 16)), (PASS, bytes(64)), (HASHES, bytes(16))):
        control, token = greet_again(path)
        control.send(ACCEPT, b'{"bulk_streams": 12}')
        held = [Stream(path, token, index) for index in range(1, 14)]
        push(held[0], NEED, argument=16 << 20)
        push(control, kind, payload)
        for stream in (control, *held):
            stream.socket.close()


def a_frame_in_drops(path):
    """The limit is one of the frame, not of each of its bytes."""
    stream, started = Stream(path), time.monotonic()
    try:
        for byte in stream.frame(HELLO, hello()):
            stream.socket.sendall(bytes([byte]))
            time.sleep(0.5)
    except (ConnectionError, ssl.SSLError):
        pass
    assert time.monotonic() - started < 20, "dropped after 5 s"


def drops_until_the_end(path):
    stream = Stream(path)
    stream.socket.sendall(stream.frame(HELLO, hello())[:10])
    return stream


def silence_after_the_greeting(path):
    return greet(path)[0]


def our_key(directory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["drafter/1"])
    context.load_cert_chain(f"{directory}/peer.crt", f"{directory}/peer.key")
    return context


def attack_all(tls):
    global proof
    with tempfile.TemporaryDirectory(prefix="drafter-hostile-") as directory:
        nodelab.make_package(directory)
        nodelab.make_keys(directory)
        proof = our_key(directory) if tls else None
        try:
            attack_one(directory, tls)
            attack_to_the_end(directory, tls)
        finally:
            nodelab.Node.end_all()


def attack_one(directory, tls):
    node = nodelab.start_peer(directory, tls=tls)
    before = node.memory()
    for attack in (a_stream_that_is_not_announced, a_stream_too_many, frames_that_lie, floods, a_frame_in_drops):
        attack(f"{directory}/socket")
        assert node.child.poll() is None, f"{attack.__name__}: the node ended with {node.child.poll()}: {node.said()}"
        print(f"ok: {attack.__name__}{' over tls' if tls else ''}", flush=True)
    cost = node.memory() - before
    assert cost < MEMORY_MAX, f"hostile peers cost the node {cost >> 20} MiB"
    print(f"ok: all of that cost the node {cost >> 10} KiB", flush=True)
    node.stop()


def attack_to_the_end(directory, tls):
    for attack in (drops_until_the_end, silence_after_the_greeting):
        node = nodelab.start_peer(directory, tls=tls)
        stream = attack(f"{directory}/socket")
        seconds = node.stop()
        assert seconds < 4, f"{attack.__name__}: the node took {seconds:.1f} s to end"
        stream.socket.close()
        print(f"ok: {attack.__name__}{' over tls' if tls else ''}", flush=True)


attack_all(tls=False)
attack_all(tls=True)
