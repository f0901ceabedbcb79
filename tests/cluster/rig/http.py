"""A small HTTP client on the standard library: no connection pool, no redirects, no proxies."""

import http.client
import json as json_module
import urllib.parse


class Answer:
    """Status, headers (lower-case names) and body of one exchange."""

    def __init__(self, method, url, status, headers, body):
        self.method = method
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        try:
            return json_module.loads(self.body)
        except ValueError as error:
            raise AssertionError(f"{self}: not JSON: {error}") from error

    def expect(self, *statuses):
        """The answer itself, or an AssertionError that shows it."""
        assert self.status in statuses, f"{self}, expected {statuses}"
        return self

    def __repr__(self):
        return f"{self.method} {self.url} -> {self.status} {self.text[:600]}"


def call(method, url, body=None, headers=None, json=None, timeout_s=60.0, tls=None):
    """One request. body: bytes, a file or an iterable of bytes (sent chunked). json: sent as the body instead.

    tls: the ssl.SSLContext of an https URL.
    """
    parts = urllib.parse.urlsplit(url)
    path = parts.path or "/"
    if parts.query:
        path += "?" + parts.query
    headers = dict(headers or {})
    if json is not None:
        body = json_module.dumps(json).encode()
        headers.setdefault("Content-Type", "application/json")
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=tls)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{method} {url}: {error!r}") from error
    finally:
        connection.close()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(method, url, response.status, names, data)


def with_query(url, **params):
    """url with those parameters that are not None."""
    query = urllib.parse.urlencode({name: value for name, value in params.items() if value is not None})
    if not query:
        return url
    return url + ("&" if "?" in url else "?") + query
