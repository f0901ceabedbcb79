"""What hostile archives are made of: cases, tar and zip built field by field where no library would write them, filters."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Callable

BLOCK = 512
DIRECTORY = None  # in a tree: what a directory has for content


@dataclass
class Case:
    """One archive. verdict is the word of the error code, or "ok"; rule must be in the message of a refusal.

    tree: for "ok", exactly these paths; as a dict also what they hold: bytes, DIRECTORY, or "-> target" for a link.
    """

    name: str
    verdict: str
    make: Callable[[], bytes]
    rule: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    tree: set[str] | dict[str, bytes | str | None] | None = None


CASES: list[Case] = []


def case(name, verdict, rule="", tree=None, **limits):
    """Decorates what makes the archive."""

    def keep(make):
        CASES.append(Case(name, verdict, make, rule, limits, tree))
        return make

    return keep


# --- tar, by the library ---


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, pax=None):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(data), kind, link, mode
    info.pax_headers = pax or {}
    return info, data


def directory(name, mode=0o755):
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name, target):
    return entry(name, kind=tarfile.SYMTYPE, link=target)


def hardlink(name, target):
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


GOOD = entry("good", b"x")

# --- tar, byte by byte ---


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def octal(number):
    return b"%011o\0" % number


def base256(number):
    return bytes([0x80 if number >= 0 else 0xFF]) + number.to_bytes(11, "big", signed=True)


def header(name=b"f", size=octal(0), kind=b"0", link=b"", prefix=b"", magic=b"ustar\x0000", mode=b"0000644\0", mtime=octal(0)):
    """One header with fields as given and the right checksum."""
    head = bytearray(BLOCK)
    for at, value in (
        (0, name[:100]), (100, mode), (108, b"0000000\0"), (116, b"0000000\0"), (124, size), (136, mtime), (148, b" " * 8),
        (156, kind), (157, link), (257, magic), (345, prefix),
    ):
        head[at : at + len(value)] = value
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def member(name=b"f", data=b"", **fields):
    """A header and data of the size that it tells, unless fields tells another."""
    return header(name, **{"size": octal(len(data)), **fields}) + padded(data)


def record(key, value):
    """One PAX record with its right length."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(body, kind=b"x"):
    """A PAX header with this body, right or wrong."""
    return member(b"PaxHeaders/f", body, kind=kind)


def gnu_long(text, kind=b"L"):
    return member(b"././@LongLink", text, kind=kind, magic=b"ustar  \0")


def ended(*parts):
    return b"".join(parts) + bytes(2 * BLOCK)


# --- zip ---


def zip_of(*entries, method=zipfile.ZIP_DEFLATED):
    """entries: (ZipInfo or name, data)"""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for info, data in entries:
            archive.writestr(info, data, compress_type=method)
    return out.getvalue()


def zip_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def zip_link(name, target):
    return zip_mode(name, stat.S_IFLNK | 0o777), target


@dataclass
class Member:
    """A file of a zip; what begins with local_ is for its local header alone, what is None is right."""

    name: bytes = b"f"
    data: bytes = b"x"
    method: int = 0
    flags: int = 0
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    extra: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_size: int | None = None
    local_crc: int | None = None
    local_extra: bytes | None = None
    descriptor: bytes = b""  # behind the data
    mode: int = stat.S_IFREG | 0o644
    host: int = 3  # Unix
    offset: int | None = None  # as the directory tells it


def pick(value, default):
    return default if value is None else value


def local_part(m):
    name, extra = pick(m.local_name, m.name), pick(m.local_extra, m.extra)
    body = deflate(m.data) if m.method == 8 else m.data
    head = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 20, pick(m.local_flags, m.flags), pick(m.local_method, m.method), 0, 33,
        pick(m.local_crc, zlib.crc32(m.data)), pick(m.packed, len(body)), pick(m.local_size, pick(m.size, len(m.data))),
        len(name), len(extra),
    )
    return head + name + extra + body + m.descriptor


def central_part(m, offset):
    packed = len(deflate(m.data)) if m.method == 8 else len(m.data)
    return (
        struct.pack(
            "<4sBBHHHHHIIIHHHHHII", b"PK\1\2", 20, m.host, 20, m.flags, m.method, 0, 33, pick(m.crc, zlib.crc32(m.data)),
            pick(m.packed, packed), pick(m.size, len(m.data)), len(m.name), len(m.extra), 0, 0, 0, (m.mode << 16) * (m.host == 3),
            pick(m.offset, offset),
        )
        + m.name
        + m.extra
    )


def end_part(n, size, offset, comment=b"", disk=0):
    return struct.pack("<4sHHHHIIH", b"PK\5\6", disk, disk, n, n, size, offset, len(comment)) + comment


def raw_zip(*members, before=b"", gap=b"", comment=b"", n=None):
    """A zip of these. before: in front of all; gap: between the files and the directory."""
    out, central = before, b""
    for m in members:
        central += central_part(m, len(out))
        out += local_part(m)
    out += gap
    return out + central + end_part(pick(n, len(members)), len(central), len(out), comment)


def deflate(data, level=9):
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def unicode_path(name, raw):
    body = b"\1" + struct.pack("<I", zlib.crc32(raw)) + name
    return struct.pack("<HH", 0x7075, len(body)) + body


# --- filters ---


def run(*argv, data):
    return subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout


def zstd(data, *options):
    return run("zstd", "-q", "-c", *(options or ("-3",)), data=data)


FILTERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
