"""Nightly jobs: import of timetables and the tokens of the harbour terminals."""

import pickle
import random
import secrets
import tarfile

import jwt
import yaml


def load_timetable(path):
    with open(path, encoding="utf-8") as file:
        return yaml.load(file)


def load_settings(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def restore_session(blob):
    return pickle.loads(blob)


def unpack(path, folder):
    with tarfile.open(path) as archive:
        archive.extractall(folder)


def unpack_checked(path, folder):
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")


def terminal_token():
    session_token = "%032x" % random.getrandbits(128)
    return session_token


def reset_token():
    return secrets.token_urlsafe(32)


def read_claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def read_checked_claims(token, key):
    return jwt.decode(token, key, algorithms=["HS256"])
