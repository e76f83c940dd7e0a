# SPDX-License-Identifier: BSD-2-Clause
"""The S3 server of the tests, or with S3_SERVER another one, as tests of whole processes use it."""

import json
import os
import pathlib
import subprocess
import urllib.request

from nodelab import PATIENCE


class Server:
    def __enter__(self):
        program = os.environ.get("S3_SERVER", pathlib.Path(__file__).resolve().parent.parent / "s3" / "server.py")
        os.environ.update(AWS_ACCESS_KEY_ID="AKTEST", AWS_SECRET_ACCESS_KEY="SKTEST/secret+key")
        self.process = subprocess.Popen(["python3", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.ask("/_clear", {})
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data=data, timeout=PATIENCE) as answer:
            return json.load(answer)

    def objects(self):
        return self.ask("/_objects")

    def uploads(self):
        return self.ask("/_uploads")

    def faults(self, *rules):
        self.ask("/_faults", list(rules))

    def bytes_read(self):
        return self.ask("/_sent")

    def requests(self, method, part):
        return [path for asked, path in self.ask("/_log") if asked == method and part in path]

    def section(self, name):
        return f"[storage:{name}]\nplugin = s3\nendpoint = http://127.0.0.1:{self.port}\nbucket = test\n"

    def object(self, name, more=""):
        return f"{self.section('object')}object = {name}\n{more}"
