import hashlib
import os
import pickle
import random
import secrets
import shlex
import ssl
import subprocess
import tarfile

import jwt
import requests
import yaml
from flask import Flask, render_template, render_template_string, request
from werkzeug.utils import secure_filename

app = Flask(__name__)


def commands():
    host = request.args["host"]
    # ruleid: python-command-injection
    os.system("ping -c 1 " + host)
    # ruleid: python-command-injection
    subprocess.run(f"ping {host}", shell=True)
    # ok: python-command-injection
    subprocess.run(["ping", "-c", "1", host])
    # ok: python-command-injection
    os.system("ping " + shlex.quote(host))
    # ok: python-command-injection
    os.system("uptime")


def queries(cursor):
    name = request.form.get("name")
    # ruleid: python-sql-injection
    cursor.execute("SELECT * FROM users WHERE name = '" + name + "'")
    query = f"SELECT * FROM users WHERE name = '{name}'"
    # ruleid: python-sql-injection
    cursor.execute(query)
    # ok: python-sql-injection
    cursor.execute("SELECT * FROM users WHERE name = ?", (name,))
    # ok: python-sql-injection
    cursor.execute("SELECT * FROM users LIMIT %d" % int(name))


def code():
    # ruleid: python-code-injection
    eval(request.args["formula"])
    # ok: python-code-injection
    eval("1 + 1")


def files(folder):
    name = request.args.get("name")
    # ruleid: python-path-traversal
    open(os.path.join(folder, name))
    # ok: python-path-traversal
    open(os.path.join(folder, secure_filename(name)))


def fetch():
    # ruleid: python-ssrf
    requests.get(request.args["url"], timeout=5)
    # ok: python-ssrf
    requests.get("https://api.example.com/v1", params=request.args, timeout=5)


def templates():
    # ruleid: python-template-injection
    render_template_string("Hello " + request.args["name"])
    # ok: python-template-injection
    render_template_string("Hello {{ name }}", name=request.args["name"])
    # ok: python-template-injection
    render_template("hello.html", name=request.args["name"])


def load(data):
    # ruleid: python-unsafe-deserialisation
    pickle.loads(data)
    # ruleid: python-unsafe-deserialisation
    yaml.load(data)
    # ok: python-unsafe-deserialisation
    yaml.safe_load(data)
    # ok: python-unsafe-deserialisation
    yaml.load(data, Loader=yaml.SafeLoader)


def transport(context):
    # ruleid: python-tls-verification-off
    requests.get("https://example.com", verify=False, timeout=5)
    # ruleid: python-tls-verification-off
    context.verify_mode = ssl.CERT_NONE
    # ok: python-tls-verification-off
    context.verify_mode = ssl.CERT_REQUIRED
    # ok: python-tls-verification-off
    requests.get("https://example.com", verify="/etc/ssl/ca.pem", timeout=5)


def tokens(token, key):
    # ruleid: python-jwt-unverified
    jwt.decode(token, options={"verify_signature": False})
    # ruleid: python-jwt-unverified
    jwt.decode(token, key, algorithms=["HS256", "none"])
    # ok: python-jwt-unverified
    jwt.decode(token, key, algorithms=["HS256"])


def digests(data):
    # ruleid: python-weak-hash
    hashlib.md5(data)
    # ok: python-weak-hash
    hashlib.md5(data, usedforsecurity=False)
    # ok: python-weak-hash
    hashlib.sha256(data)


def server():
    # ruleid: python-debug-server
    app.run(host="127.0.0.1", debug=True)
    # ok: python-debug-server
    app.run(host="127.0.0.1", debug=False)


def randomness():
    # ruleid: python-insecure-random-token
    session_token = "%x" % random.getrandbits(128)
    # ok: python-insecure-random-token
    reset_token = secrets.token_hex(16)
    # ok: python-insecure-random-token
    colour = random.choice(["red", "green"])
    return session_token, reset_token, colour


# ruleid: python-hardcoded-credential
DB_PASSWORD = "h0rse-battery-9"
# ruleid: python-hardcoded-credential
app.config["SECRET_KEY"] = "k3ep-th1s-quiet"
# ok: python-hardcoded-credential
API_KEY = os.environ["API_KEY"]
# ok: python-hardcoded-credential
password = "changeme"
# ok: python-hardcoded-credential
password_hint = "the name of your first pet"


def unpack(path):
    # ruleid: python-tar-extract-all
    with tarfile.open(path) as archive:
        archive.extractall("/srv/data")
    # ok: python-tar-extract-all
    with tarfile.open(path) as checked:
        checked.extractall("/srv/data", filter="data")
