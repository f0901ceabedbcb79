"""Formats that are not taken, filters and their joints, and archives that were cut off anywhere."""

import bz2
import gzip
import lzma
import struct
import zlib

from blocks import DIRECTORY, FILTERS, GOOD, case, deflate, ended, entry, header, member, run, tar, zip_of, zstd

# --- what is no archive, or none of ours ---

for label, data in {
    "zero_bytes": b"",
    "one_byte": b"P",
    "zip_magic_alone": b"PK\3\4",
    "garbage": bytes(range(256)) * 100,
    "shell_script": b"#!/bin/sh\necho evil\n",
    # libarchive's reader of this one copies files of the host.
    "mtree": b"#mtree\nevil type=file contents=/etc/passwd\n",
    "ar": b"!<arch>\nfile/           0           0     0     644     1         `\nx\n",
    "cpio": b"070701" + b"0" * 104,
    "7z": b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(24),
    "rar": b"Rar!\x1a\x07\0" + bytes(64),
    "rar5": b"Rar!\x1a\x07\1\0" + bytes(64),
    "cab": b"MSCF" + bytes(64),
    "lha": b"\x20\x00-lh5-" + bytes(64),
    "xar": b"xar!\0\x1c\0\1" + bytes(64),
    "warc": b"WARC/1.0\r\nWARC-Type: response\r\n\r\n",
    # Begins like an empty tar.
    "iso9660": bytes(32768) + b"\1CD001\1" + bytes(4096),
    "lzip": b"LZIP\x01\x0c" + bytes(64),
    "lz4": b"\x04\x22\x4d\x18\x64\x40\xa7" + bytes(64),
    "lzop": b"\x89LZO\0\x0d\x0a\x1a\x0a" + bytes(64),
    "lrzip": b"LRZI\0\6" + bytes(64),
    "grzip": b"GRZipII\0\2\4:)" + bytes(64),
    "compress": b"\x1f\x9d\x90" + bytes(64),
    "rpm": b"\xed\xab\xee\xdb\3\0" + bytes(200),
    "uuencode": b"begin 644 f\n#0V%T\n`\nend\n",
}.items():
    case(f"format_{label}", "invalid")(lambda data=data: data)
case("format_lzma_alone", "invalid")(lambda: lzma.compress(tar(GOOD), format=lzma.FORMAT_ALONE))
for filter_name, pack in FILTERS.items():
    case(f"{filter_name}_of_text", "invalid")(lambda pack=pack: pack(b"hello\n"))
    case(f"{filter_name}_of_nothing", "invalid")(lambda pack=pack: pack(b""))
    case(f"{filter_name}_of_zip", "invalid")(lambda pack=pack: pack(zip_of(("good", b"x"))))
    for inner_name, inner in FILTERS.items():
        case(f"{filter_name}_of_{inner_name}", "invalid", "more than once")(
            lambda pack=pack, inner=inner: pack(inner(tar(GOOD)))
        )
case("tar_bad_checksum", "invalid")(lambda: tar(GOOD).replace(b"ustar", b"usxar", 1))
case("tar_second_bad_checksum", "invalid")(lambda: ended(member(b"good", b"x"), member(b"f").replace(b"ustar", b"usxar")))
case("tar_empty", "ok", tree=set())(lambda: bytes(10240))
case("tar_trailing_garbage", "ok", tree={"good": b"x"})(lambda: tar(GOOD) + b"garbage" * 1000)
case("tar_behind_tar", "ok", tree={"good": b"x"})(lambda: tar(GOOD) + tar(entry("../evil", b"x")))
case("tar_one_zero_block_between", "ok", tree={"good": b"x"})(
    lambda: member(b"good", b"x") + bytes(512) + ended(member(b"../evil", b"x"))
)
# The first bytes tell what it is; a zip behind a tar is no part of it.
case("tar_and_zip", "ok", tree={"good": b"x"})(lambda: ended(member(b"good", b"x")) + zip_of(("../evil", b"x")))
case("tar_named_like_zip", "invalid")(lambda: ended(member(b"PK\3\4", b"x")))
case("tar_v7", "ok", tree={"f": b"x"})(lambda: ended(member(b"f", b"x", magic=bytes(8))))
case("tar_v7_link", "invalid", "outside")(lambda: ended(header(b"l", kind=b"2", link=b"../x", magic=bytes(8))))

# --- filters: several streams in one, additions, damage ---

WHOLE = {"a": b"1" * 5000, "b": b"2" * 5000}
BODY = tar(*[entry(name, data) for name, data in WHOLE.items()])
for filter_name, pack in FILTERS.items():
    case(f"{filter_name}_of_many_streams", "ok", tree=WHOLE)(
        lambda pack=pack: b"".join(pack(BODY[at : at + 777]) for at in range(0, len(BODY), 777))
    )
    # As gzip, bzip2, xz and zstd themselves have it.
    garbage = "ok" if filter_name in ("gzip", "bzip2") else "invalid"
    zeros = "invalid" if filter_name == "zstd" else "ok"
    case(f"{filter_name}_trailing_garbage", garbage, tree=WHOLE)(lambda pack=pack: pack(BODY) + b"garbage" * 1000)
    case(f"{filter_name}_trailing_zeros", zeros, tree=WHOLE)(lambda pack=pack: pack(BODY) + bytes(4096))


def gzip_with(flags, fields, data=BODY, trailer=None):
    end = struct.pack("<II", zlib.crc32(data), len(data)) if trailer is None else trailer
    return b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + fields + deflate(data) + end


case("gzip_all_fields", "ok", tree=WHOLE)(lambda: gzip_with(0x1E, b"\4\0abcdname\0comment\0\0\0"))
case("gzip_name_is_no_path", "ok", tree=WHOLE)(lambda: gzip_with(0x08, b"../../evil\0"))
case("gzip_extra_too_long", "invalid")(lambda: gzip_with(0x04, b"\xff\xff"))
case("gzip_name_without_end", "invalid")(lambda: gzip_with(0x08, b"x" * 100, data=b"")[:110])
case("gzip_reserved_flags", "invalid")(lambda: gzip_with(0xE0, b""))
case("gzip_bad_block", "invalid")(lambda: gzip_with(0, b"")[:40] + b"\xff" * 100)
case("bzip2_bad_checksum", "invalid")(lambda: damaged(bz2.compress(BODY), 12))
case("bzip2_block_size_0", "invalid")(lambda: b"BZh0" + bz2.compress(BODY)[4:])
case("xz_bad_checksum", "invalid")(lambda: damaged(lzma.compress(BODY), -30))
case("xz_padding_between", "ok", tree=WHOLE)(lambda: lzma.compress(BODY[:1000]) + bytes(8) + lzma.compress(BODY[1000:]))
case("xz_bcj", "ok", tree=WHOLE)(
    lambda: lzma.compress(BODY, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 1}])
)
case("zstd_skippable_frames", "ok", tree=WHOLE)(
    lambda: skippable(100) + zstd(BODY[:1000]) + skippable(0) + skippable(100000) + zstd(BODY[1000:]) + skippable(5)
)
case("zstd_skippable_frame_of_4GiB", "invalid")(lambda: b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + zstd(BODY))
case("zstd_skippable_frames_alone", "invalid")(lambda: skippable(100) * 100)
case("zstd_dictionary", "invalid")(lambda: b"\x28\xb5\x2f\xfd\x03\x00\xff\xff\xff\xff" + zstd(BODY)[6:])
case("zstd_reserved_block", "invalid")(lambda: b"\x28\xb5\x2f\xfd\x00\x58\x07\x00\x00" + bytes(100))


def damaged(data, at):
    out = bytearray(data)
    out[at] ^= 0x55
    return bytes(out)


def skippable(n):
    return b"\x5a\x2a\x4d\x18" + n.to_bytes(4, "little") + b"s" * n


# --- whole; test_cut_off cuts them everywhere ---

MANY = {f"f{i}": bytes([i]) * 3000 for i in range(20)}
TAR = tar(*[entry(name, data) for name, data in MANY.items()])
WHOLES = {
    "tar": lambda: TAR,
    **{name: lambda pack=pack: pack(TAR) for name, pack in FILTERS.items()},
    "zip": lambda: zip_of(*MANY.items()),
}
for label, make in WHOLES.items():
    case(f"good_{label}", "ok", tree=MANY)(make)
