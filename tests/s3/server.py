#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An S3 server for tests, strict where clients err: server.py [--port N]

It checks Signature Version 4 with the payload's hash and the clock (15 minutes), and knows objects
(PUT, GET, HEAD, DELETE, ranges, If-Match, If-None-Match), ListObjectsV2 with pages, and uploads in parts.
Objects are kept in memory.  The first line it prints is its port; it ends with its standard input.

Faults: POST /_faults with a JSON list of rules, each {"method", "path" (regular expression),
"count", "action", ...}; the first rule that fits a request is used up by one:
  {"action": "status", "status": 503}    answers so and does nothing
  {"action": "drop"}                     closes the connection before it does anything
  {"action": "unheard"}                  does it, then closes the connection without an answer
  {"action": "cut"}                      sends half of the body
  {"action": "corrupt"}                  flips a bit of the body
  {"action": "delay", "seconds": 0.5}
  {"action": "whole"}                    ignores Range
  {"action": "late"}                     does nothing and answers 200, with an error in the body
Options of the server: POST /_options {"conditions": false, "skew": seconds, "page": keys a page,
"bare": true to know the ETag in If-Match of PUT only without quotes, as radosgw does}.
GET /_log gives the requests so far, GET /_objects the names and sizes of the objects, GET /_uploads the names of
those that are being uploaded, GET /_sent how many bytes of bodies it sent.
"""

import argparse
import calendar
import collections
import hashlib
import hmac
import json
import re
import secrets
import sys
import threading
import time
import xml.etree.ElementTree
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote
from xml.sax.saxutils import escape

ACCESS, SECRET, REGION = "AKTEST", "SKTEST/secret+key", "us-east-1"
TOKEN = "session/token+"
PART_MIN, PARTS_MAX = 5 << 20, 10000

Object = collections.namedtuple("Object", "body etag tag")


class Failure(Exception):
    def __init__(self, status, code, message=""):
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class Store:
    def __init__(self):
        self.lock = threading.Lock()
        self.buckets = {"test": {}}
        self.uploads = {}  # id: [key, tag, {number: Object}]
        self.faults, self.log, self.sent = [], [], 0
        self.options = {"conditions": True, "skew": 0, "page": 1000, "bare": False}

    def take_fault(self, method, path):
        with self.lock:
            for rule in self.faults:
                if rule.get("count", 1) > 0 and rule.get("method", method) == method \
                        and re.search(rule.get("path", ""), path):
                    rule["count"] = rule.get("count", 1) - 1
                    return rule
        return {}


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(request, headers, said, date, region):
    """Of a request (method, path, query) with these signed headers, in order, and its payload's hash."""
    fields = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in headers.items())
    canonical = "\n".join([*request, fields, ";".join(headers), said])
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in (date[:8], region, "s3", "aws4_request"):
        key = sign(key, part)
    return sign(key, text).hex()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20  # an answer is one segment: nobody waits for a delayed ACK
    disable_nagle_algorithm = True
    store = None

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client went away
            self.close_connection = True

    # ---- who asks

    def authenticate(self, body):
        header = self.headers.get("Authorization", "")
        match = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, "
                             r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})", header)
        if not match:
            raise Failure(403, "AccessDenied", "no signature")
        access, day, region, names, given = match.groups()
        if access != ACCESS:
            raise Failure(403, "InvalidAccessKeyId", "no such key")
        names = names.split(";")
        for name in self.headers:
            if name.lower().startswith("x-amz-") and name.lower() not in names:
                raise Failure(403, "AccessDenied", f"{name} is not signed")
        if "host" not in names:
            raise Failure(403, "AccessDenied", "host is not signed")
        date = self.headers.get("x-amz-date", "")
        when = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        if abs(when - time.time() - self.store.options["skew"]) > 900 or not date.startswith(day):
            raise Failure(403, "RequestTimeTooSkewed",
                          "The difference between the request time and the server's time is too large.")
        said = self.headers.get("x-amz-content-sha256", "")
        if said != hashlib.sha256(body).hexdigest():
            raise Failure(400, "XAmzContentSHA256Mismatch", "the payload is another")
        token = self.headers.get("x-amz-security-token")
        if token is not None and token != TOKEN:
            raise Failure(403, "InvalidToken", "no such session")
        path, _, query = self.path.partition("?")
        if query != "&".join(sorted(query.split("&"))):
            raise Failure(403, "SignatureDoesNotMatch", "the query is not sorted")
        right = signature((self.command, path, query), {name: self.headers[name] for name in names}, said, date, region)
        if region != REGION or right != given:
            raise Failure(403, "SignatureDoesNotMatch", "the signature is wrong")

    # ---- objects

    def split(self):
        path, _, query = self.path.partition("?")
        bucket, _, key = path[1:].partition("/")
        if bucket not in self.store.buckets:
            raise Failure(404, "NoSuchBucket", bucket)
        return self.store.buckets[bucket], unquote(key), dict(
            (unquote(name), unquote(value))
            for name, _, value in (part.partition("=") for part in query.split("&") if part))

    @staticmethod
    def etag(body):
        return f'"{hashlib.md5(body).hexdigest()}"'

    def check_conditions(self, objects, key):
        match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if self.command != "GET" and (match or none) and not self.store.options["conditions"]:
            raise Failure(501, "NotImplemented", "conditional PUT")
        if none == "*" and key in objects:
            raise Failure(412, "PreconditionFailed", "it exists")
        if match and key not in objects:
            raise Failure(404, "NoSuchKey", key)
        if self.command == "PUT" and self.store.options["bare"]:
            match = match and f'"{match}"'  # as radosgw does
        if match and objects[key].etag != match:
            raise Failure(412, "PreconditionFailed", "it is another")

    def put(self, body):
        objects, key, query = self.split()
        made = Object(body, self.etag(body), self.headers.get("x-amz-meta-drafter"))
        with self.store.lock:
            if "uploadId" in query:
                self.put_part(key, query, made)
            else:
                self.check_conditions(objects, key)
                objects[key] = made
        return 200, {"ETag": made.etag}, b""

    # ---- uploads in parts

    def upload(self, key, query):
        upload = self.store.uploads.get(query["uploadId"])
        if not upload or upload[0] != key:
            raise Failure(404, "NoSuchUpload", "no such upload")
        return upload

    def put_part(self, key, query, part):
        if part.tag or not 1 <= int(query["partNumber"]) <= PARTS_MAX or "If-None-Match" in self.headers:
            raise Failure(400, "InvalidArgument", "of a part")
        self.upload(key, query)[2][int(query["partNumber"])] = part

    def post(self, body, fault):
        objects, key, query = self.split()
        if fault.get("action") == "late":
            return 200, {}, b"<Error><Code>InternalError</Code><Message>a fault</Message></Error>"
        with self.store.lock:
            if query == {"uploads": ""} and not body:
                name = secrets.token_urlsafe(12) + "/+"  # such that it has to be encoded
                self.store.uploads[name] = [key, self.headers.get("x-amz-meta-drafter"), {}]
                return 200, {}, f"<R><Key>{escape(key)}</Key><UploadId>{name}</UploadId></R>".encode()
            if list(query) != ["uploadId"]:
                raise Failure(501, "NotImplemented", self.path)
            self.complete(objects, key, query, body)
        return 200, {}, b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"

    def complete(self, objects, key, query, body):
        _, tag, parts = self.upload(key, query)
        wanted = [[field.text for field in part] for part in xml.etree.ElementTree.fromstring(body)]
        numbers = [int(number) for number, _ in wanted]
        if not numbers or numbers != sorted(set(numbers)):
            raise Failure(400, "InvalidPartOrder", "the parts are not in order")
        if any(number not in parts or parts[number].etag != etag for number, (_, etag) in zip(numbers, wanted)):
            raise Failure(400, "InvalidPart", "a part is another")
        if any(len(parts[number].body) < PART_MIN for number in numbers[:-1]):
            raise Failure(400, "EntityTooSmall", "a part is too small")
        self.check_conditions(objects, key)
        whole = b"".join(parts[number].body for number in numbers)
        objects[key] = Object(whole, self.etag(whole)[:-1] + f'-{len(numbers)}"', tag)
        del self.store.uploads[query["uploadId"]]

    def list_uploads(self, query):
        with self.store.lock:
            text = "".join(f"<Upload><Key>{escape(upload[0])}</Key><UploadId>{name}</UploadId></Upload>"
                           for name, upload in self.store.uploads.items() if upload[0].startswith(query.get("prefix", "")))
        return 200, {}, f"<ListMultipartUploadsResult>{text}</ListMultipartUploadsResult>".encode()

    def get(self, fault):
        objects, key, query = self.split()
        if not key:
            return self.list_uploads(query) if "uploads" in query else self.list(objects, query)
        with self.store.lock:
            if key not in objects:
                raise Failure(404, "NoSuchKey", key)
            self.check_conditions(objects, key)
            body, etag, tag = objects[key]
        headers = {"ETag": etag} | ({"x-amz-meta-drafter": tag} if tag else {})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or fault.get("action") == "whole":
            return 200, headers, body
        first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        if first >= len(body):
            raise Failure(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return 206, headers, body[first:last + 1]

    def list(self, objects, query):
        if query.get("list-type") != "2":
            raise Failure(501, "NotImplemented", "only ListObjectsV2")
        page = self.store.options["page"]
        with self.store.lock:
            keys = sorted(key for key in objects if key.startswith(query.get("prefix", "")))
        keys = [key for key in keys if key > query.get("continuation-token", "")]
        more = len(keys) > page
        text = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys[:page])
        if more:
            text += f"<NextContinuationToken>{escape(keys[page - 1])}</NextContinuationToken>"
        text = (f"<ListBucketResult><IsTruncated>{'true' if more else 'false'}</IsTruncated>{text}"
                "</ListBucketResult>")
        return 200, {"Content-Type": "application/xml"}, text.encode()

    def delete(self):
        objects, key, query = self.split()
        with self.store.lock:
            if query:
                self.upload(key, query)
                del self.store.uploads[query["uploadId"]]
            else:
                objects.pop(key, None)
        return 204, {}, b""

    def act(self, body, fault):
        self.authenticate(body)
        if self.command == "PUT":
            return self.put(body)
        if self.command == "POST":
            return self.post(body, fault)
        return self.delete() if self.command == "DELETE" else self.get(fault)

    # ---- what steers the server

    def sizes(self):
        with self.store.lock:
            return {key: len(value.body) for key, value in self.store.buckets["test"].items()}

    def uploading(self):
        with self.store.lock:
            return [upload[0] for upload in self.store.uploads.values()]

    def clear(self):
        self.store.buckets["test"].clear()
        self.store.uploads.clear()

    def corrupt(self, key):
        data = bytearray(self.store.buckets["test"][key].body)
        data[len(data) // 2] ^= 0x10
        self.store.buckets["test"][key] = Object(bytes(data), self.etag(data), None)

    def control(self, body):
        if self.path == "/_log":
            return 200, {}, json.dumps(self.store.log).encode()
        if self.path == "/_objects":
            return 200, {}, json.dumps(self.sizes()).encode()
        if self.path == "/_sent":
            return 200, {}, json.dumps(self.store.sent).encode()
        if self.path == "/_uploads":
            return 200, {}, json.dumps(self.uploading()).encode()
        if self.path == "/_faults":
            self.store.faults = json.loads(body)
        elif self.path == "/_options":
            self.store.options.update(json.loads(body))
        elif self.path == "/_clear":
            self.clear()
            self.store.log.clear()
            self.store.faults = []
            self.store.options = {"conditions": True, "skew": 0, "page": 1000, "bare": False}
        elif self.path.startswith("/_corrupt/"):
            self.corrupt(unquote(self.path[len("/_corrupt/"):]))
        return 200, {}, b"{}"

    def answer(self, status, headers, body, fault):
        action = fault.get("action")
        if action == "unheard":
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if action == "corrupt" and body:
            body = body[:len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1:]
        if action == "cut":
            body = body[:len(body) // 2]
            self.close_connection = True
        if not self.path.startswith("/_"):
            with self.store.lock:
                self.store.sent += len(body)
        self.wfile.write(body)
        self.wfile.flush()

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path.startswith("/_"):
            self.answer(*self.control(body), {})
            return
        self.store.log.append([self.command, self.path])
        fault = self.store.take_fault(self.command, self.path)
        if fault.get("action") == "drop":
            self.close_connection = True
            return
        time.sleep(fault.get("seconds", 0))
        try:
            if fault.get("action") == "status":
                raise Failure(fault["status"], "SlowDown" if fault["status"] == 503 else "InternalError",
                              "a fault")
            result = self.act(body, fault)
        except Failure as failure:
            text = (f"<?xml version=\"1.0\"?><Error><Code>{failure.code}</Code>"
                    f"<Message>{escape(failure.message)}</Message></Error>")
            result = failure.status, {"Content-Type": "application/xml"}, text.encode()
        self.answer(*result, fault)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = serve


def run(handler):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    handler.store = Store()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    run(Handler)
