"""A minimal S3 client (AWS Signature Version 4, path style) for looking at what Drover stored and planting objects.

Written apart from Drover's own signing on purpose: a test must not believe the code that it tests.
"""

import datetime
import hashlib
import hmac
import urllib.parse
import xml.etree.ElementTree as ElementTree

from . import http

TRIES = 8
NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Client:
    def __init__(self, url, access_key, secret_key, region):
        self.url = url
        self.host = urllib.parse.urlsplit(url).netloc
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region

    def request(self, method, path, query=None, body=b"", headers=None):
        """A signed request; the answer whatever its status. 500 is asked again: a listing met what was just being removed."""
        for _ in range(TRIES):
            answer = self._request(method, path, query, body, headers)
            if answer.status != 500:
                break
        return answer

    def _request(self, method, path, query, body, headers):
        now = datetime.datetime.now(datetime.timezone.utc)
        day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
        path = urllib.parse.quote(path, safe="/-_.~")
        query_text = "&".join(
            f"{urllib.parse.quote(name, safe='-_.~')}={urllib.parse.quote(value, safe='-_.~')}"
            for name, value in sorted((query or {}).items())
        )
        digest = hashlib.sha256(body).hexdigest()
        signed = {name.lower(): value for name, value in (headers or {}).items()}
        signed |= {"host": self.host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(sorted(signed))
        canonical_headers = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
        canonical = "\n".join((method, path, query_text, canonical_headers, names, digest))
        scope = f"{day}/{self.region}/s3/aws4_request"
        to_sign = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = _hmac(key, part)
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        url = f"{self.url}{path}" + (f"?{query_text}" if query_text else "")
        return http.call(method, url, body=body, headers=signed, timeout_s=60)

    def list_buckets(self):
        root = ElementTree.fromstring(self.request("GET", "/").expect(200).body)
        return [node.text for node in root.findall(".//s3:Bucket/s3:Name", NAMESPACE)]

    def list(self, bucket, prefix=""):
        """{key: size} of all objects below the prefix."""
        found, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            root = ElementTree.fromstring(self.request("GET", f"/{bucket}", query).expect(200).body)
            for node in root.findall("s3:Contents", NAMESPACE):
                found[node.findtext("s3:Key", "", NAMESPACE)] = int(node.findtext("s3:Size", "0", NAMESPACE))
            token = root.findtext("s3:NextContinuationToken", None, NAMESPACE)
            if not token:
                return found

    def get(self, bucket, key):
        return self.request("GET", f"/{bucket}/{key}").expect(200).body

    def head(self, bucket, key):
        """Headers of the object, or None when there is none."""
        answer = self.request("HEAD", f"/{bucket}/{key}").expect(200, 404)
        return answer.headers if answer.status == 200 else None

    def put(self, bucket, key, body, headers=None):
        self.request("PUT", f"/{bucket}/{key}", body=body, headers=headers).expect(200)

    def delete(self, bucket, key):
        self.request("DELETE", f"/{bucket}/{key}").expect(204)

    def make_bucket(self, bucket):
        self.request("PUT", f"/{bucket}").expect(200)

    def lifecycle(self, bucket):
        """The bucket's rules as XML text, or None when it has none."""
        answer = self.request("GET", f"/{bucket}", {"lifecycle": ""}).expect(200, 404)
        return answer.text if answer.status == 200 else None

    def drop_bucket(self, bucket):
        """Delete the bucket with all that is in it; no bucket is fine."""
        if bucket not in self.list_buckets():
            return
        for key in self.list(bucket):
            self.delete(bucket, key)
        self.request("DELETE", f"/{bucket}").expect(204)
