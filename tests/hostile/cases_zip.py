"""Zips that say two things, hide or share files, or want what we do not take. Their names, links and bombs are elsewhere."""

import struct
import zipfile
import zlib

from blocks import DIRECTORY, Member, case, central_part, deflate, end_part, local_part, raw_zip, unicode_path, zip_of

XY = {"a": b"x", "b": b"y"}
TWO = (Member(b"a", b"x"), Member(b"b", b"y"))
LONG = b"x" * 100000

for label, method in {
    "stored": zipfile.ZIP_STORED, "deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2,
}.items():
    case(f"zip_{label}", "ok", tree={"f": LONG})(lambda method=method: zip_of(("f", LONG), method=method))
case("zip_lzma", "invalid", "method 14")(lambda: zip_of(("f", LONG), method=zipfile.ZIP_LZMA))
for method in (1, 6, 9, 18, 96, 97, 98, 99, 65535):
    case(f"zip_method_{method}", "invalid", f"method {method}")(lambda method=method: raw_zip(Member(method=method)))
case("zip_empty", "ok", tree=set())(lambda: zip_of())
case("zip_raw", "ok", tree=XY)(lambda: raw_zip(*TWO))

# --- two headers of a file ---

for label, fields in {
    "names": {"local_name": b"g"},
    "name_lengths": {"local_name": b"ff"},
    "case": {"name": b"File", "local_name": b"file"},
    "methods": {"data": LONG, "method": 8, "local_method": 0},
    "sizes": {"local_size": 2},
    "checksums": {"local_crc": 1},
}.items():
    rule = "names" if "name" in label or label == "case" else "two things"
    case(f"zip_{label}_differ", "invalid", rule)(lambda fields=fields: raw_zip(Member(**fields)))
case("zip_nul_in_names", "invalid", "names")(lambda: raw_zip(Member(b"good\0../evil")))
case("zip_size_lie", "invalid")(lambda: raw_zip(Member(data=LONG, method=8, size=10)))
case("zip_size_lie_stored", "invalid")(lambda: raw_zip(Member(data=LONG, size=10)))
case("zip_size_lie_more", "invalid")(lambda: raw_zip(Member(data=LONG, method=8, size=200000)))
case("zip_bad_checksum", "invalid")(lambda: raw_zip(Member(data=LONG, method=8, crc=1, local_crc=1)))
case("zip_bad_deflate", "invalid")(lambda: raw_zip(Member(data=b"\xff" * 50, method=0)).replace(b"\0\0\0\0!\0", b"\x08\0\0\0!\0"))
DESCRIPTOR = struct.pack("<4sIII", b"PK\7\x08", zlib.crc32(b"x"), 1, 1)
case("zip_descriptor", "ok", tree=XY)(
    lambda: raw_zip(Member(b"a", b"x", flags=8, local_crc=0, local_size=0, descriptor=DESCRIPTOR), TWO[1])
)
case("zip_descriptor_lies", "ok", tree=XY)(
    lambda: raw_zip(Member(b"a", b"x", flags=8, local_crc=0, local_size=0, descriptor=bytes(16)), TWO[1])
)
case("zip_descriptor_holds_a_file", "ok", tree=XY)(
    lambda: raw_zip(Member(b"a", b"x", flags=8, descriptor=DESCRIPTOR + local_part(Member(b"evil"))), TWO[1])
)

# --- encrypted ---

for label, flags in {"traditional": 1, "strong": 0x41, "directory": 0x2000}.items():
    case(f"zip_encrypted_{label}", "invalid", "encrypted")(lambda flags=flags: raw_zip(Member(data=LONG, flags=flags)))
case("zip_encrypted_local_alone", "invalid", "encrypted")(lambda: raw_zip(Member(data=LONG, local_flags=1)))
case("zip_encrypted_aes", "invalid", "encrypted")(lambda: raw_zip(Member(data=LONG, flags=1, method=99)))

# --- names in Unicode beside names that are not ---

CAFE = "caf\u00e9".encode()
OLD = b"caf\x82"  # code page 437
case("zip_unicode_path", "ok", tree={"caf\u00e9": b"x"})(lambda: raw_zip(Member(OLD, extra=unicode_path(CAFE, OLD))))
# A checksum of the old name stands before the new one, and may well hold a zero byte.
ZERO = next(name for name in (b"caf\xe9 %d" % i for i in range(10000)) if b"\0" in struct.pack("<I", zlib.crc32(name)))
case("zip_unicode_path_zero_in_checksum", "ok", tree={ZERO.decode("latin-1"): b"x"})(
    lambda: raw_zip(Member(ZERO, extra=unicode_path(ZERO.decode("latin-1").encode(), ZERO)))
)
case("zip_unicode_path_same", "ok", tree={"f": b"x"})(lambda: raw_zip(Member(b"f", extra=unicode_path(b"f", b"f"))))
case("zip_unicode_path_other", "invalid", "names")(lambda: raw_zip(Member(b"f", extra=unicode_path(b"../evil", b"f"))))
case("zip_unicode_path_local_alone", "invalid", "names")(
    lambda: raw_zip(Member(b"f", local_extra=unicode_path(b"../evil", b"f")))
)
case("zip_unicode_path_out", "invalid", '".."')(lambda: raw_zip(Member(OLD, extra=unicode_path(b"../evil", OLD))))
case("zip_unicode_path_differs", "invalid", "names")(
    lambda: raw_zip(Member(OLD, extra=unicode_path(CAFE, OLD), local_extra=unicode_path(b"../evil", OLD)))
)
case("zip_unicode_path_nul", "invalid")(lambda: raw_zip(Member(OLD, extra=unicode_path(b"good\0../evil", OLD))))
case("zip_unicode_path_empty", "invalid")(lambda: raw_zip(Member(OLD, local_extra=struct.pack("<HH", 0x7075, 0))))
case("zip_unicode_path_short", "invalid")(lambda: raw_zip(Member(OLD, extra=struct.pack("<HHH", 0x7075, 2, 1))))
case("zip_utf8_flag", "ok", tree={"caf\u00e9": b"x"})(lambda: raw_zip(Member(CAFE, flags=0x800)))
case("zip_utf8_flag_lies", "invalid", "UTF-8")(lambda: raw_zip(Member(OLD, flags=0x800)))
case("zip_extra_garbage", "invalid", "Extra data")(lambda: raw_zip(Member(b"f", extra=b"\xff" * 7)))

# --- shape ---

case("zip_garbage_in_front", "invalid")(lambda: b"garbage" * 10 + raw_zip(*TWO))
case("zip_garbage_in_front_counted", "invalid")(lambda: raw_zip(*TWO, before=b"garbage" * 10))
case("zip_zip_in_front", "invalid")(lambda: raw_zip(Member(b"c")) + raw_zip(*TWO))
case("zip_zip_in_front_counted", "invalid", "not in its directory")(lambda: raw_zip(*TWO, before=raw_zip(Member(b"c"))))
case("zip_zip_in_comment", "invalid")(lambda: raw_zip(*TWO, comment=raw_zip(Member(b"../evil"))))
case("zip_end_in_comment", "invalid")(lambda: raw_zip(*TWO, comment=end_part(0, 0, 0)))
case("zip_gap_behind_directory", "invalid", "no sound directory")(lambda: raw_zip(*TWO)[:-22] + b"gap" + raw_zip(*TWO)[-22:])
case("zip_comment", "ok", tree=XY)(lambda: raw_zip(*TWO, comment=b"made by hand" * 100))
case("zip_comment_cut", "invalid")(lambda: raw_zip(*TWO, comment=b"made by hand")[:-1])
case("zip_trailing_garbage", "ok", tree=XY)(lambda: raw_zip(*TWO) + b"garbage" * 100)
case("zip_trailing_64KiB", "invalid")(lambda: raw_zip(*TWO) + bytes(70000))
case("zip_signing_block", "ok", tree=XY)(lambda: raw_zip(*TWO, gap=b"APK Sig Block 42" * 100))
case("zip_file_not_in_directory", "ok", tree=XY)(lambda: raw_zip(*TWO, gap=local_part(Member(b"../evil"))))
case("zip_count_too_low", "invalid")(lambda: raw_zip(*TWO, n=1))
case("zip_count_too_high", "invalid")(lambda: raw_zip(*TWO, n=3))
case("zip_count_0", "invalid")(lambda: raw_zip(*TWO, n=0))
case("zip_many_disks", "invalid")(lambda: raw_zip(*TWO)[:-18] + b"\1\0\1\0" + raw_zip(*TWO)[-14:])
case("zip_offset_beyond_end", "invalid")(lambda: raw_zip(Member(offset=1 << 30)))
case("zip_offset_into_directory", "invalid")(lambda: raw_zip(Member(offset=32)))
case("zip_data_beyond_end", "invalid")(lambda: raw_zip(Member(data=b"x", packed=1000, size=1000)))
case("zip_data_into_directory", "invalid")(lambda: raw_zip(Member(data=b"x", packed=20, size=20)))
case("zip_directory_with_data", "invalid", "has data")(lambda: raw_zip(Member(b"d/", b"x")))
case("zip_same_offset", "invalid")(lambda: raw_zip(Member(b"a", b"x"), Member(b"a", b"x", offset=0)))
case("zip_directory_entries_backwards", "ok", tree=XY)(lambda: backwards(*TWO))


def backwards(*members):
    out, central = b"", b""
    for m in members:
        central = central_part(m, len(out)) + central
        out += local_part(m)
    return out + central + end_part(len(members), len(central), len(out))


# --- 64-bit ---


def zip64(n=2, size=None, offset=None, end=None, locator=None, record_size=44):
    """Two files, and end records of both kinds; None is right."""
    files = b"".join(local_part(m) for m in TWO)
    central = central_part(TWO[0], 0) + central_part(TWO[1], len(local_part(TWO[0])))
    size = len(central) if size is None else size
    offset = len(files) if offset is None else offset
    at = len(files) + len(central) if locator is None else locator
    long_end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", record_size, 45, 45, 0, 0, n, n, size, offset)
    end = end or end_part(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    return files + central + long_end + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + end


def extra64(*values):
    return struct.pack("<HH", 1, 8 * len(values)) + struct.pack(f"<{len(values)}Q", *values)


NONE = 0xFFFFFFFF
case("zip64", "ok", tree=XY)(zip64)
case("zip64_both_ends_agree", "ok", tree=XY)(lambda: zip64(end=end_part(2, 94, 64)))
case("zip64_ends_disagree", "invalid")(lambda: zip64(end=end_part(1, 47, 64)))
case("zip64_ends_disagree_on_place", "invalid")(lambda: zip64(end=end_part(2, 94, 60)))
case("zip64_count_too_high", "invalid")(lambda: zip64(n=3))
case("zip64_count_huge", "too_big", "entries")(lambda: zip64(n=(1 << 62)))
case("zip64_count_negative", "invalid")(lambda: zip64(n=(1 << 64) - 1))
case("zip64_size_huge", "invalid")(lambda: zip64(size=1 << 62))
case("zip64_offset_negative", "invalid")(lambda: zip64(offset=(1 << 64) - 64))
case("zip64_locator_elsewhere", "invalid")(lambda: zip64(locator=0))
case("zip64_locator_beyond_end", "invalid")(lambda: zip64(locator=1 << 62))
case("zip64_record_too_long", "invalid")(lambda: zip64(record_size=1 << 40))
case("zip64_sizes", "ok", tree={"f": b"x"})(
    lambda: raw_zip(Member(b"f", size=NONE, packed=NONE, extra=extra64(1, 1), local_size=NONE))
)
case("zip64_sizes_missing", "invalid", "missing")(lambda: raw_zip(Member(b"f", size=NONE, packed=NONE)))
case("zip64_sizes_differ", "invalid", "two things")(
    lambda: raw_zip(Member(b"f", size=NONE, packed=NONE, extra=extra64(1, 1), local_extra=extra64(2, 1)))
)
case("zip64_size_huge_in_file", "too_big", "allowed")(
    lambda: raw_zip(Member(b"f", deflated := deflate(b"x" * 9), 0, size=NONE, packed=NONE, extra=extra64(1 << 62, len(deflated))))
)
case("zip64_size_negative_in_file", "invalid")(
    lambda: raw_zip(Member(b"f", size=NONE, packed=NONE, extra=extra64((1 << 64) - 1, 1)))
)
case("zip64_offset", "ok", tree={"f": b"x"})(
    lambda: raw_zip(Member(b"f", offset=NONE, extra=extra64(0), local_extra=b""))
)
