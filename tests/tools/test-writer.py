#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""drafter-writer against a Redis of our own making, which moves, forgets and lies when it is told to."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "drafter-writer")


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def command(self):
        count = int(self.rfile.readline()[1:] or 0)
        return [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(count)]

    def handle(self):
        host = self.server.host
        self.server.clients.append(self.connection)
        try:
            while words := self.command():
                while host.paused:
                    time.sleep(0.001)
                with host.lock:
                    answer = host.do(words)
                if self.server is not host.server:  # it moved meanwhile: nobody hears us
                    return
                self.wfile.write(answer)
        except (OSError, ValueError):
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class Host:
    """One guest; `server` is where it can be reached."""

    def __init__(self):
        self.data, self.lock, self.paused, self.forget = {}, threading.Lock(), False, None
        self.server = None
        self.move()

    def move(self):
        old, new = self.server, Server(("127.0.0.1", 0), Handler)
        new.host, new.clients = self, []
        threading.Thread(target=new.serve_forever, args=(0.01,), daemon=True).start()
        self.server = new
        self.ports = getattr(self, "ports", []) + [new.server_address[1]]
        if old:
            old.shutdown()
            old.server_close()
            for client in old.clients:
                client.close()

    def do(self, words):
        if words[0] == b"PING":
            return b"+PONG\r\n"
        if words[0] == b"SET":
            if words[1] != self.forget:
                self.data[words[1]] = words[2]
            return b"+OK\r\n"
        if words[0] == b"INCR":
            self.data[words[1]] = b"%d" % (int(self.data.get(words[1], 0)) + 1)
            return b":%s\r\n" % self.data[words[1]]
        values = [self.data.get(key, b"") for key in words[1:]]
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(v), v) if v else b"$-1\r\n" for v in values)
        return parts if words[0] == b"GET" else b"*%d\r\n" % len(values) + parts

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class WriterTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.host = Host()

    def tearDown(self):
        self.host.close()
        self.directory.cleanup()

    def start(self, *options, ports=None):
        command = [sys.executable, TOOL, "--journal", self.directory.name + "/journal", "--rate", "1000", "--patience", "5",
                   "--ports", ",".join(map(str, ports or self.host.ports)), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def finish(self, writer):
        output = writer.communicate(timeout=20)[0]
        return writer.returncode, json.loads(output)

    def wait_for_writes(self, count):
        end = time.monotonic() + 10
        while len(self.host.data) < count and time.monotonic() < end:
            time.sleep(0.01)

    def test_counts_what_was_acknowledged(self):
        status, report = self.finish(self.start("--seconds", "0.3"))
        self.assertEqual((status, report["lost"], report["unknown"], report["reconnects"]), (0, 0, 0, 0))
        self.assertEqual(report["acked"], len(self.host.data) - 1)

    def test_follows_the_guest_to_another_port(self):
        first = self.host.ports[0]
        spare = Server(("127.0.0.1", 0), Handler)
        second = spare.server_address[1]
        spare.server_close()
        writer = self.start(ports=[first, second])
        self.wait_for_writes(50)
        self.host.paused = True
        time.sleep(0.3)
        original = Server.__init__
        Server.__init__ = lambda server, address, handler: original(server, ("127.0.0.1", second), handler)
        try:
            self.host.move()
        finally:
            Server.__init__ = original
        self.host.paused = False
        seen = len(self.host.data)
        self.wait_for_writes(seen + 50)
        writer.send_signal(signal.SIGTERM)
        status, report = self.finish(writer)
        self.assertEqual((status, report["lost"]), (0, 0))
        self.assertGreaterEqual(report["reconnects"], 1)
        self.assertLessEqual(report["unknown"], report["reconnects"])
        self.assertGreater(report["max_gap_ms"], 290)

    def test_notices_a_write_that_is_not_there(self):
        self.host.forget = b"k:7"
        status, report = self.finish(self.start("--seconds", "0.2"))
        self.assertEqual((status, report["lost"] > 0), (1, True))

    def test_notices_memory_that_went_back(self):
        writer = self.start()
        self.wait_for_writes(100)
        with self.host.lock:
            self.host.data[b"k:count"] = b"10"
        time.sleep(0.1)
        writer.send_signal(signal.SIGTERM)
        status, report = self.finish(writer)
        self.assertEqual((status, report["lost"] > 0), (1, True))

    def test_verifies_the_journal_of_an_earlier_run(self):
        self.finish(self.start("--seconds", "0.2"))
        self.assertEqual(self.finish(self.start("--verify"))[0], 0)
        self.host.data[b"k:3"] = b"3:another"
        self.assertEqual(self.finish(self.start("--verify"))[1]["lost"], 1)

    def test_fails_where_nobody_answers(self):
        self.host.paused = True
        writer = self.start("--patience", "0.3", "--seconds", "0.3")
        self.assertEqual(writer.wait(timeout=10), 2)
        writer.stdout.close()
        self.host.paused = False


if __name__ == "__main__":
    unittest.main()
