#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What tests of networks run inside the namespaces of their hosts and guests. Standard library only.

    nettool.py guest NETNS TAP MAC ADDRESS/LENGTH GATEWAY [ADDRESS6/LENGTH GATEWAY6]
        plays a VM: a namespace of its own, whose eth0 is connected with the tap of a slot; says "ready"
    nettool.py ping ADDRESS [SIZE]          one echo, fragments forbidden; prints the answer's kind
    nettool.py dns-server ADDRESS PORT      answers questions for A records with 192.0.2.53; says "ready"
    nettool.py dns ADDRESS PORT             asks one; prints the answer
    nettool.py udp-refused ADDRESS PORT     prints whether an ICMP error came back
    nettool.py redis ADDRESS PORT WORD...   one command on a connection of its own; prints the answer
    nettool.py hold ADDRESS PORT            one connection to redis, INCR all the time until SIGTERM; prints
                                            "connected", then a report as JSON
    nettool.py flood ADDRESS PORT           datagrams until it is killed
    nettool.py fetch ADDRESS PORT BYTES     reads that much from `serve`
    nettool.py serve ADDRESS PORT BYTES     gives each client that much; says "ready"
    nettool.py listen ADDRESS PORT          a TCP server that does nothing; says "ready"
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
TIMEOUT = float(os.environ.get("NETTOOL_TIMEOUT", "5"))


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def say(text):
    print(text, flush=True)


# A VM without a VM

def libc(function, *arguments):
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        raise OSError(ctypes.get_errno(), function)


def open_tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def guest(netns, tap, mac, *addresses):
    with open(netns) as namespace:
        libc("setns", namespace.fileno(), CLONE_NEWNET)
    outside = open_tap(tap)
    libc("unshare", CLONE_NEWNET)
    inside = open_tap("eth0")
    for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "address", mac, "up"]):
        subprocess.run(["ip", *command], check=True)
    for address, gateway in zip(addresses[::2], addresses[1::2]):
        version = "-6" if ":" in address else "-4"
        nodad = ["nodad"] if version == "-6" else []
        subprocess.run(["ip", version, "addr", "add", address, "dev", "eth0", *nodad], check=True)
        subprocess.run(["ip", version, "route", "add", "default", "via", gateway], check=True)
    say("ready")
    while True:
        for source in select.select([inside, outside], [], [])[0]:
            with contextlib.suppress(OSError):  # a full queue loses frames, as networks do
                os.write(inside if source == outside else outside, os.read(source, 65536))


# Questions and answers

def ping(address, size="56"):
    v6 = family(address) == socket.AF_INET6
    with socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) as sock:
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, 62, 1)  # IPV6_DONTFRAG
        else:
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: always
        sock.connect((address, 0))
        identifier, payload = os.getpid() & 0xFFFF, b"d" * int(size)
        header = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, identifier, 1)
        total = sum(struct.unpack(f"!{(len(header + payload) + 1) // 2}H", (header + payload).ljust((len(header + payload) + 1) // 2 * 2, b"\0")))
        total = (total >> 16) + (total & 0xFFFF)
        total += total >> 16
        packet = header[:2] + struct.pack("!H", ~total & 0xFFFF) + header[4:] + payload
        deadline = time.monotonic() + TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            try:
                sock.send(packet)
            except OSError as error:  # a path that is known to be narrower
                return say("too big" if error.errno == 90 else os.strerror(error.errno))
            if not select.select([sock], [], [], min(left, 0.5))[0]:
                continue
            try:
                answer = sock.recv(65536)
            except OSError as error:
                return say("too big" if error.errno == 90 else os.strerror(error.errno))
            message = answer if v6 else answer[(answer[0] & 15) * 4:]
            if message[0] == (129 if v6 else 0) and struct.unpack("!H", message[4:6])[0] == identifier:
                return say("alive")
    return say("silence")


def dns_server(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, int(port)))
        say("ready")
        while True:
            question, sender = sock.recvfrom(512)
            answer = question[:2] + b"\x81\x80" + question[4:6] + b"\0\1\0\0\0\0" + question[12:]
            sock.sendto(answer + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.53"), sender)


def dns(address, port):
    question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7drafter\4test\0\0\1\0\1"
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect((address, int(port)))
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                sock.send(question)
                try:
                    return say(socket.inet_ntoa(sock.recv(512)[-4:]))
                except ConnectionRefusedError:
                    return say("refused")
    return say("silence")


def udp_refused(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect((address, int(port)))
        sock.send(b"x")
        try:
            sock.recv(1)
        except ConnectionRefusedError:
            return say("refused")
        except TimeoutError:
            return say("silence")
    return say("answered")


def command(words):
    return b"".join([b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words])


def redis(address, port, *words):
    try:
        with socket.create_connection((address, int(port)), TIMEOUT) as sock:
            sock.settimeout(TIMEOUT)
            sock.sendall(command([word.encode() for word in words]))
            lines = sock.makefile("rb")
            line = lines.readline().strip()
            say((lines.readline() if line.startswith(b"$") else line).strip().decode().lstrip("+"))
    except OSError as error:
        say("silence" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0))


def hold(address, port):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    report = {"count": 0, "longest_ms": 0.0, "error": None, "wrong": 0}
    with socket.create_connection((address, int(port)), TIMEOUT) as sock:
        sock.settimeout(60)
        lines = sock.makefile("rb")
        say("connected")
        expected = None
        while not ended:
            asked = time.monotonic()
            try:
                sock.sendall(command([b"INCR", b"held"]))
                line = lines.readline()
            except OSError as error:
                report["error"] = str(error)
                break
            if not line.startswith(b":"):
                report["error"] = f"answer {line!r}"
                break
            number = int(line[1:])
            report["wrong"] += expected is not None and number != expected
            expected = number + 1
            report["count"] += 1
            report["longest_ms"] = max(report["longest_ms"], (time.monotonic() - asked) * 1000)
            time.sleep(0.005)
    say(json.dumps(report))


def flood(address, port):
    with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
        sock.connect((address, int(port)))
        while True:
            with contextlib.suppress(OSError):
                sock.send(b"x" * 64)
            time.sleep(0.0002)


def serve(address, port, length):
    with socket.create_server((address, int(port)), family=family(address)) as server:
        say("ready")
        while True:
            client, _ = server.accept()
            with client:
                client.sendall(b"d" * int(length))


def fetch(address, port, length):
    got = 0
    with socket.create_connection((address, int(port)), TIMEOUT) as sock:
        sock.settimeout(TIMEOUT)
        with contextlib.suppress(TimeoutError):
            while got < int(length) and (data := sock.recv(65536)):
                got += len(data)
    say(got)


def listen(address, port):
    with socket.create_server((address, int(port)), family=family(address)):
        say("ready")
        signal.pause()


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
