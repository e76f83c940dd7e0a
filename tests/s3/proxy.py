#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The faults and the log of server.py in front of a real S3 server, whose port S3_UPSTREAM has.

A request goes on as it came, signature and all, and the real server judges it.  Three things need a
signature of our own: another clock, smaller pages, and session tokens, which need a service of their own.
The bucket "test" is made when it is not there.
"""

import http.client
import os
import time

from server import ACCESS, REGION, TOKEN, Failure, Handler, run, signature
from urllib.parse import quote
from xml.sax.saxutils import unescape
import hashlib
import re

UPSTREAM = int(os.environ["S3_UPSTREAM"])
BACK = ("etag", "content-range", "content-type", "x-amz-meta-drafter")


def signed(method, target, host, body, skew=0):
    """The headers of a request of our own."""
    path, _, query = target.partition("?")
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - skew))
    said = hashlib.sha256(body).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": said, "x-amz-date": date}
    given = signature((method, path, query), headers, said, date, REGION)
    headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={ACCESS}/{date[:8]}/{REGION}/s3/aws4_request, "
                                f"SignedHeaders={';'.join(headers)}, Signature={given}")
    return headers


class Proxy(Handler):
    upstream = None

    def send_on(self, method, target, headers, body):
        for attempt in (0, 1):  # a connection that was kept may be closed by now
            self.upstream = self.upstream or http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=60)
            try:
                self.upstream.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    self.upstream.putheader(name, value)
                if method == "PUT" and "Content-Length" not in headers:
                    self.upstream.putheader("Content-Length", str(len(body)))
                self.upstream.endheaders(body or None)
                answer = self.upstream.getresponse()
                return answer, answer.read()
            except (OSError, http.client.HTTPException):
                self.upstream.close()
                self.upstream = None
                if attempt:
                    raise

    def ask(self, method, target, body=b"", skew=0):
        return self.send_on(method, target, signed(method, target, f"127.0.0.1:{UPSTREAM}", body, skew), body)

    def act(self, body, fault):
        options, headers, target = self.store.options, dict(self.headers), self.path
        if fault.get("action") == "whole":
            headers.pop("Range", None)
        if fault.get("action") == "late":
            return self.post(body, fault)
        if self.command != "GET" and not options["conditions"] and {"If-Match", "If-None-Match"} & set(headers):
            raise Failure(501, "NotImplemented", "conditional PUT")
        pages = options["page"] if "list-type=2" in target else 1000
        if options["skew"] or pages != 1000 or headers.get("x-amz-security-token"):
            if headers.pop("x-amz-security-token", TOKEN) != TOKEN:
                raise Failure(403, "InvalidToken", "no such session")
            target += f"&max-keys={pages}" if pages != 1000 else ""
            target = self.sort_query(target)
            headers.update(signed(self.command, target, headers["Host"], body, options["skew"]))
            headers.pop("Host")
        answer, content = self.send_on(self.command, target, headers, body)
        back = {name: value for name, value in answer.getheaders() if name.lower() in BACK}
        if self.command == "HEAD":
            back["Content-Length"] = answer.getheader("Content-Length", "0")
        return answer.status, back, content

    @staticmethod
    def sort_query(target):
        path, mark, query = target.partition("?")
        return path + mark + "&".join(sorted(query.split("&")))

    # ---- what steers the server

    def sizes(self):
        sizes, token = {}, ""
        while token is not None:
            parts = [f"continuation-token={quote(token, safe='')}"] if token else []
            answer, xml = self.ask("GET", "/test?" + "&".join(parts + ["list-type=2"]))
            assert answer.status == 200, xml
            text = xml.decode()
            for key, size in re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", text):
                sizes[unescape(key)] = int(size)
            more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text)
            token = unescape(more[1]) if more else None
        return sizes

    def uploads(self):
        answer, xml = self.ask("GET", "/test?uploads=")
        assert answer.status == 200, xml
        return [[unescape(text) for text in found]
                for found in re.findall(r"<Key>(.*?)</Key>.*?<UploadId>(.*?)</UploadId>", xml.decode())]

    def uploading(self):
        return [key for key, _ in self.uploads()]

    def clear(self):
        for key in self.sizes():
            self.ask("DELETE", f"/test/{quote(key)}")
        for key, name in self.uploads():
            self.ask("DELETE", f"/test/{quote(key)}?uploadId={quote(name, safe='')}")

    def corrupt(self, key):
        target = f"/test/{quote(key)}"
        answer, content = self.ask("GET", target)
        assert answer.status == 200
        data = bytearray(content)
        data[len(data) // 2] ^= 0x10
        answer, content = self.ask("PUT", target, bytes(data))
        assert answer.status == 200, content


def make_bucket():
    connection = http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=60)
    connection.request("PUT", "/test", headers=signed("PUT", "/test", f"127.0.0.1:{UPSTREAM}", b""))
    answer = connection.getresponse()
    assert answer.status in (200, 409), answer.read()


if __name__ == "__main__":
    make_bucket()
    run(Proxy)
