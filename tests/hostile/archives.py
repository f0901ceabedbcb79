"""Hostile archives, made here: CASES lists name, verdict of the extractor, and a function that writes the archive's bytes.

A verdict is the word of the error code, "ok", or a tuple of allowed words. `rule` must be in the message. `limits` are the
limits of extraction for the case. Nothing here may be unpacked with a common tool outside a throw-away machine.
"""

import bz2
import gzip
import io
import lzma
import stat
import struct
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass, field
from typing import Callable


@dataclass
class Case:
    name: str
    verdict: str | tuple[str, ...]
    make: Callable[[], bytes]
    rule: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    tree: set[str] | None = None  # for "ok": exactly these paths


CASES: list[Case] = []


def case(name, verdict, rule="", tree=None, **limits):
    def keep(make):
        CASES.append(Case(name, verdict, make, rule, limits, tree))
        return make

    return keep


# --- building blocks ---


def entry(name, data=b"", kind=tarfile.REGTYPE, link="", mode=0o644, pax=None):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mode = len(data), kind, link, mode
    info.pax_headers = pax or {}
    return info, data


def tar(*entries, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return out.getvalue()


def raw_header(name: bytes, size_field: bytes, kind=b"0", link=b""):
    """A ustar header with fields as given, right checksum."""
    head = bytearray(512)
    head[0 : len(name)] = name
    head[100:108] = b"0000644\0"
    head[124 : 124 + len(size_field)] = size_field
    head[136:148] = b"00000000000\0"
    head[148:156] = b" " * 8
    head[156:157] = kind
    head[157 : 157 + len(link)] = link
    head[257:265] = b"ustar\x0000"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def zip_of(*entries):
    """entries: (ZipInfo or name, data)"""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in entries:
            archive.writestr(info, data)
    return out.getvalue()


def zip_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c", "-19"], input=data, stdout=subprocess.PIPE, check=True).stdout


GOOD = entry("good", b"x")
DEVICES = {"char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}

# --- names ---

for label, raw, rule in [
    ("dotdot", "../evil", '".."'),
    ("dotdot_deep", "a/b/../../../evil", '".."'),
    ("dotdot_end", "a/..", '".."'),
    ("absolute", "/tmp/drover-evil", "absolute"),
    ("whiteout", ".wh.good", "whiteout"),
    ("opaque", "d/.wh..wh..opq", "whiteout"),
]:
    case(f"tar_{label}", "invalid", rule)(lambda raw=raw: tar(GOOD, entry(raw, b"x")))
    case(f"zip_{label}", "invalid", rule)(lambda raw=raw: zip_of(("good", b"x"), (raw, b"x")))

case("tar_backslash", "ok", tree={"..\\evil"})(lambda: tar(entry("..\\evil", b"x")))
case("tar_control_characters", "ok", tree={"a\nb", "\x1b[2J"})(lambda: tar(entry("a\nb", b"x"), entry("\x1b[2J", b"x")))
case("tar_control_characters_in_error", "invalid", "\\x1b")(lambda: tar(entry("../\x1b[2J\n", b"x")))
case("tar_not_utf8", "invalid", "UTF-8")(lambda: tar(entry("caf\udce9", b"x"), form=tarfile.GNU_FORMAT))
case("tar_component_too_long", "too_big", "component")(lambda: tar(entry("n" * 256, b"x")))
case("tar_name_12000", "too_big", "name")(lambda: tar(entry("d/" * 6000 + "f", b"x")))
case("tar_too_deep", "too_big", "deep")(lambda: tar(entry("d/" * 65 + "f", b"x")))
case("tar_deep_enough", "ok")(lambda: tar(entry("d/" * 64 + "f", b"x")))
case("tar_case_twins", "ok", tree={"File", "file"})(lambda: tar(entry("File", b"x"), entry("file", b"x")))
case("tar_unicode_twins", "ok", tree={"\u00e9", "e\u0301"})(lambda: tar(entry("\u00e9", b"x"), entry("e\u0301", b"x")))
case("tar_empty_name", "invalid")(lambda: raw_header(b"", b"00000000000\0") + bytes(1024))
case("tar_nul_in_pax_path", ("invalid", "ok"))(lambda: tar(entry("x", b"x", pax={"path": "good\0../evil"})))
case("zip_not_utf8", "invalid", "UTF-8")(lambda: zip_of(("cafZ", b"x")).replace(b"cafZ", b"caf\xe9"))

# --- links ---

case("tar_symlink_out", "invalid", "outside")(lambda: tar(entry("l", kind=tarfile.SYMTYPE, link="../../etc")))
case("tar_symlink_absolute", "invalid", "absolute")(lambda: tar(entry("l", kind=tarfile.SYMTYPE, link="/etc/passwd")))
case("zip_symlink_out", "invalid", "outside")(lambda: zip_of((zip_mode("l", stat.S_IFLNK | 0o777), b"../../etc")))
case("tar_symlink_up_and_down", "invalid", "inside")(
    lambda: tar(entry("p/q/up", kind=tarfile.SYMTYPE, link="../.."), entry("p/q/out", kind=tarfile.SYMTYPE, link="up/.."))
)
case("tar_through_symlink", "invalid", "already")(
    lambda: tar(entry("d", kind=tarfile.SYMTYPE, link="e"), entry("e/f", b"x"), entry("d/evil", b"x"))
)
case("tar_directory_becomes_symlink", "invalid", "already")(
    lambda: tar(entry("d", kind=tarfile.DIRTYPE), entry("d", kind=tarfile.SYMTYPE, link="."), entry("d/evil", b"x"))
)
case("tar_symlink_becomes_file", "invalid", "already")(
    lambda: tar(entry("f", kind=tarfile.SYMTYPE, link="good"), GOOD, entry("f", b"x"))
)
case("tar_symlink_cur_par", "invalid")(
    lambda: tar(
        entry("cur", kind=tarfile.SYMTYPE, link="."),
        entry("par", kind=tarfile.SYMTYPE, link="cur/.."),
        entry("par/evil", b"x"),
    )
)
case("tar_symlink_loop", "ok")(
    lambda: tar(entry("a", kind=tarfile.SYMTYPE, link="b"), entry("b", kind=tarfile.SYMTYPE, link="a"))
)
case("tar_hardlink_absolute", "invalid", "absolute")(lambda: tar(entry("h", kind=tarfile.LNKTYPE, link="/etc/passwd")))
case("tar_hardlink_dotdot", "invalid", '".."')(lambda: tar(entry("h", kind=tarfile.LNKTYPE, link="../../etc/passwd")))
case("tar_hardlink_to_symlink", "invalid", "came before")(
    lambda: tar(entry("s", kind=tarfile.SYMTYPE, link="good"), GOOD, entry("h", kind=tarfile.LNKTYPE, link="s"))
)
case("tar_hardlink_to_directory", "invalid", "came before")(
    lambda: tar(entry("d", kind=tarfile.DIRTYPE), entry("h", kind=tarfile.LNKTYPE, link="d"))
)
case("tar_hardlink_forward", "invalid", "came before")(lambda: tar(entry("h", kind=tarfile.LNKTYPE, link="good"), GOOD))
case("tar_hardlink_to_itself", "invalid", "came before")(lambda: tar(entry("h", kind=tarfile.LNKTYPE, link="h")))
case("tar_hardlink_bomb", "too_big", bytes=1000)(
    lambda: tar(entry("f", b"x" * 100), *[entry(f"h{i}", kind=tarfile.LNKTYPE, link="f") for i in range(20)])
)
case("tar_hardlink_with_data", "invalid")(
    lambda: tar(GOOD, form=tarfile.USTAR_FORMAT)[:1024]
    + raw_header(b"h", b"00000000004\0", b"1", b"good")
    + b"evil".ljust(512, b"\0")
    + bytes(1024)
)

# --- special files and modes ---

for label, kind in DEVICES.items():
    case(f"tar_{label}", "invalid", "it is a")(lambda kind=kind: tar(GOOD, entry("dev", kind=kind)))
case("zip_fifo", ("invalid", "ok"))(lambda: zip_of(("good", b"x"), (zip_mode("p", stat.S_IFIFO | 0o644), b"")))
case("zip_socket", "invalid")(lambda: zip_of(("good", b"x"), (zip_mode("s", stat.S_IFSOCK | 0o644), b"")))
case("tar_setuid", "ok", tree={"f"})(lambda: tar(entry("f", b"x", mode=0o7777)))
case("tar_mode_000", "ok", tree={"d", "d/f"})(
    lambda: tar(entry("d", kind=tarfile.DIRTYPE, mode=0), entry("d/f", b"x", mode=0))
)
case("tar_xattr", "ok", tree={"f"})(
    lambda: tar(entry("f", b"x", pax={"SCHILY.xattr.user.evil": "1", "SCHILY.xattr.security.capability": "x"}))
)

# --- duplicates ---

case("tar_file_twice", "invalid", "already")(lambda: tar(GOOD, entry("good", b"other")))
case("tar_file_twice_other_spelling", "invalid", "already")(lambda: tar(GOOD, entry("./good", b"other")))
case("zip_file_twice", "invalid", "already")(lambda: zip_of(("good", b"x"), ("good", b"y")))
case("tar_directory_twice", "ok", tree={"d"})(lambda: tar(*[entry("d", kind=tarfile.DIRTYPE)] * 2))
case("tar_file_below_file", "invalid", "not a directory")(lambda: tar(GOOD, entry("good/x", b"x")))

# --- sizes ---


def sparse_tib():
    """A pax 1.0 sparse file of 1 TiB with one byte of data."""
    head = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": str(1 << 40)}
    return tar(entry("GNUSparseFile.0/f", b"1\n0\n1\n".ljust(512, b"\0") + b"x", pax=head))


case("tar_sparse_1TiB", "too_big", "allowed")(sparse_tib)
case("tar_size_1TiB", "too_big")(lambda: raw_header(b"f", b"\x80" + (1 << 40).to_bytes(11, "big")) + bytes(1024))
case("tar_size_negative", ("invalid", "too_big"))(lambda: raw_header(b"f", b"\xff" * 12) + bytes(1024))
case("tar_size_beyond_end", "invalid")(lambda: raw_header(b"f", b"00000100000\0") + bytes(1024))
case("tar_pax_size_override", ("invalid", "ok"))(lambda: tar(entry("f", b"x" * 512, pax={"size": "0"}), GOOD))
case("tar_many_entries", "too_big", "entries", entries=1000)(
    lambda: gzip.compress(tar(*[entry(f"f{i}") for i in range(1001)]))
)
case("tar_many_implied_directories", "too_big", "entries", entries=1000)(
    lambda: tar(*[entry("/".join(f"{i}-{d}" for d in range(50)) + "/f") for i in range(21)])
)


def zeros_tar(mib):
    head = raw_header(b"zeros", b"%011o\0" % (mib << 20))
    return head + bytes(mib << 20) + bytes(1024)


case("gzip_bomb", "too_big", "times")(lambda: gzip.compress(zeros_tar(200)))
case("bzip2_bomb", "too_big", "times")(lambda: bz2.compress(zeros_tar(200)))
case("xz_bomb", "too_big", "times")(lambda: lzma.compress(zeros_tar(200), preset=1))
case("zstd_bomb", "too_big", "times")(lambda: zstd(zeros_tar(200)))
case("zip_bomb", "too_big", "times")(lambda: zip_of(("zeros", bytes(200 << 20))))
case("gzip_bomb_in_padding", ("too_big", "invalid", "ok"))(
    lambda: gzip.compress(raw_header(b"d/", b"%011o\0" % (200 << 20), b"5") + bytes(200 << 20) + tar(GOOD))
)
case("gzip_in_gzip", "invalid", "more than once")(lambda: gzip.compress(gzip.compress(tar(GOOD))))
case("xz_dictionary", "too_big", "memory", memory_bytes=256 << 20)(
    lambda: lzma.compress(
        tar(GOOD), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30, "mode": lzma.MODE_FAST}]
    )
)
case("tar_file_over_limit", "too_big", "allowed", file_bytes=10)(lambda: tar(entry("f", b"x" * 11)))
case("zip_size_lie", ("invalid", "too_big"))(
    lambda: zip_of(("f", b"x" * 100000)).replace(struct.pack("<I", 100000), struct.pack("<I", 10))
)

# --- formats ---


def zip_names_differ():
    data = zip_of(("good-a", b"x"))
    at = data.index(b"good-a")
    return data[:at] + b"evil-b" + data[at + 6 :]


case("zip_local_and_central_names_differ", "invalid", "names")(zip_names_differ)
case("mtree", "invalid")(lambda: b"#mtree\nevil type=file contents=/etc/passwd\n")
case("shell_script", "invalid")(lambda: b"#!/bin/sh\necho evil\n")
case("zero_bytes", "invalid")(lambda: b"")
case("garbage", "invalid")(lambda: bytes(range(256)) * 100)
case("gzip_of_text", "invalid")(lambda: gzip.compress(b"hello\n"))
case("ar", "invalid")(lambda: b"!<arch>\nfile/           0           0     0     644     1         `\nx\n")
case("cpio", "invalid")(lambda: b"070701" + b"0" * 104)
case("7z", "invalid")(lambda: b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(24))
case("lzip", "invalid")(lambda: b"LZIP\x01\x0c" + bytes(64))
case("tar_bad_checksum", "invalid")(lambda: tar(GOOD).replace(b"ustar", b"usxar", 1))
case("tar_empty", "ok", tree=set())(lambda: bytes(10240))
case("zip_empty", "ok", tree=set())(lambda: zip_of())
case("tar_trailing_garbage", "ok", tree={"good"})(lambda: tar(GOOD) + b"garbage" * 1000)
case("zip_in_front_garbage", ("ok", "invalid"))(lambda: b"garbage" * 10 + zip_of(("good", b"x")))
case("zip_encrypted", "invalid")(lambda: zip_of(("f", b"x" * 50)).replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\x01"))

BODY = [entry(f"f{i}", bytes([i]) * 3000) for i in range(20)]
for label, data in {
    "tar": lambda: tar(*BODY),
    "gzip": lambda: gzip.compress(tar(*BODY)),
    "bzip2": lambda: bz2.compress(tar(*BODY)),
    "xz": lambda: lzma.compress(tar(*BODY)),
    "zstd": lambda: zstd(tar(*BODY)),
    "zip": lambda: zip_of(*[(f"f{i}", bytes([i]) * 3000) for i in range(20)]),
}.items():
    case(f"good_{label}", "ok", tree={f"f{i}" for i in range(20)})(data)
    for part in (3, 10, 25, 50, 75):
        case(f"cut_{label}_{part}", "invalid")(lambda data=data, part=part: data()[: len(data()) * part // 100])
