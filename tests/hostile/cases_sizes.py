"""Sizes that lie, sparse files, bombs, and every limit."""

import bz2
import gzip
import lzma
import tarfile
import zlib

from blocks import DIRECTORY, FILTERS, GOOD, Member, base256, case, central_part, deflate, directory, end_part, ended, entry
from blocks import gnu_long, hardlink, header, local_part, member, octal, pax, raw_zip, record, symlink, tar, zip_of, zstd

MIB = 1 << 20

# --- sizes ---

case("tar_size_1TiB", "too_big", "allowed")(lambda: ended(header(size=base256(1 << 40))))
case("tar_size_negative", "invalid")(lambda: ended(header(size=b"\xff" * 12)))
case("tar_size_most_negative", "invalid")(lambda: ended(header(size=b"\xff\x80" + bytes(10))))
case("tar_size_beyond_64_bits", "invalid", "overflow")(lambda: ended(header(size=b"\x80" + b"\x7f" * 11)))
case("tar_size_beyond_end", "invalid")(lambda: ended(header(size=octal(0o100000))))
case("tar_size_not_a_number", "invalid")(lambda: ended(header(size=b"9999999zzzz\0"), GOOD_BLOCK))
case("tar_size_in_spaces", "ok", tree={"f": b"xyz"})(lambda: ended(header(size=b"          3 "), b"xyz".ljust(512, b"\0")))
case("tar_pax_size_negative", "invalid")(lambda: ended(pax(record(b"size", b"-512")), member(b"f", b"x")))
case("tar_pax_size_huge", "invalid", "overflow")(
    lambda: ended(pax(record(b"size", b"9223372036854775807")), member(b"f", b"x"))
)
case("tar_pax_size_beyond_64_bits", "invalid", "overflow")(
    lambda: ended(pax(record(b"size", b"99999999999999999999999")), member(b"f", b"x"))
)
case("tar_pax_size_not_a_number", "invalid")(lambda: ended(pax(record(b"size", b"many")), member(b"f", b"x")))
GOOD_BLOCK = member(b"good", b"x")

# A reader that takes the size of the header where PAX has another sees other entries (CVE-2025-62518). The PAX one counts.
HIDDEN = ended(member(b"../evil", b"hidden"))
case("tar_pax_size_hides_entries", "ok", tree={"f": HIDDEN, "good": b"x"})(
    lambda: ended(pax(record(b"size", b"%d" % len(HIDDEN))), header(b"f"), HIDDEN, GOOD_BLOCK)
)
case("tar_pax_size_shows_entries", "invalid", '".."')(
    lambda: ended(pax(record(b"size", b"0")), header(b"f", octal(len(HIDDEN))), HIDDEN, GOOD_BLOCK)
)
case("tar_pax_size_twice", "ok", tree={"f": HIDDEN, "good": b"x"})(
    lambda: ended(
        pax(record(b"size", b"0") + record(b"size", b"%d" % len(HIDDEN))), header(b"f"), HIDDEN, GOOD_BLOCK
    )
)
case("tar_symlink_hides_entries", "invalid", '".."')(
    lambda: ended(header(b"l", octal(len(HIDDEN)), b"2", b"good"), HIDDEN, GOOD_BLOCK)
)
# Of two long names the first counts.
case("tar_gnu_name_then_pax", "ok", tree={"h": b"x"})(
    lambda: ended(gnu_long(b"h\0"), pax(record(b"path", b"g")), member(b"f", b"x"))
)
case("tar_pax_then_gnu_name", "ok", tree={"g": b"x"})(
    lambda: ended(pax(record(b"path", b"g")), gnu_long(b"h\0"), member(b"f", b"x"))
)

# --- PAX and GNU headers that are broken, many or huge ---

for label, body in {
    "length_too_long": b"999999999 path=x\n",
    "length_too_short": b"5 path=evil\n",
    "length_zero": b"0 path=x\n",
    "length_negative": b"-5 path=x\n",
    "no_length": b"path=x\n",
    "no_equals": b"8 pathx\n",
    "no_newline": b"9 path=xy",
    "no_key": b"5 =x\n\n",
    "zeros": bytes(512),
}.items():
    case(f"tar_pax_{label}", "invalid")(lambda body=body: ended(pax(body), member(b"f", b"x")))
case("tar_pax_2MiB", "invalid", "too large")(lambda: ended(pax(record(b"comment", b"x" * 2 * MIB)), member(b"f", b"x")))
case("tar_pax_size_1GiB", "invalid")(lambda: ended(header(b"PaxHeaders/f", octal(1 << 30), b"x"), member(b"f", b"x")))
case("tar_gnu_name_2MiB", "invalid", "too large")(lambda: ended(gnu_long(b"d/" * MIB), member(b"f", b"x")))
case("tar_gnu_name_size_1GiB", "invalid")(lambda: ended(header(b"././@LongLink", octal(1 << 30), b"L"), member(b"f", b"x")))
case("tar_gnu_name_chain", "invalid")(lambda: ended(*[gnu_long(b"g\0")] * 1000, member(b"f", b"x")))
case("tar_pax_chain", "invalid")(lambda: ended(*[pax(record(b"path", b"g"))] * 1000, member(b"f", b"x")))
case("tar_global_chain", "invalid")(
    lambda: ended(*[pax(record(b"comment", b"g"), kind=b"g")] * 1000, member(b"f", b"x"))
)
case("tar_pax_alone", "invalid")(lambda: ended(pax(record(b"path", b"g"))))
case("tar_gnu_name_alone", "invalid")(lambda: ended(gnu_long(b"g\0")))

# --- sparse files ---


def sparse_pax(pieces, real, data, kind="1.0"):
    """A sparse file as PAX has it: pieces are (offset, length)."""
    if kind == "1.0":
        table = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
        head = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "f", "GNU.sparse.realsize": str(real)}
        return tar(entry("GNUSparseFile.0/f", table.ljust(-len(table) % 512 + len(table), b"\0") + data, pax=head))
    if kind == "0.1":
        table = ",".join(f"{at},{size}" for at, size in pieces)
        head = {"GNU.sparse.size": str(real), "GNU.sparse.numblocks": str(len(pieces)), "GNU.sparse.map": table}
        return tar(entry("f", data, pax={**head, "GNU.sparse.name": "f"}))
    records = record(b"GNU.sparse.size", b"%d" % real) + record(b"GNU.sparse.numblocks", b"%d" % len(pieces))
    for at, size in pieces:
        records += record(b"GNU.sparse.offset", b"%d" % at) + record(b"GNU.sparse.numbytes", b"%d" % size)
    return ended(pax(records), member(b"f", data))


def sparse_gnu(pieces, real, data):
    """The same in an old GNU header; at most four pieces."""
    head = bytearray(header(b"f", octal(len(data)), b"S", magic=b"ustar  \0"))
    for i, (at, size) in enumerate(pieces):
        head[386 + 24 * i : 410 + 24 * i] = base256(at) + base256(size)
    head[483:495] = base256(real)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return ended(bytes(head), data.ljust(-len(data) % 512 + len(data), b"\0"))


SPARSE = {
    "pax10": sparse_pax,
    "pax01": lambda *a: sparse_pax(*a, kind="0.1"),
    "pax00": lambda *a: sparse_pax(*a, kind="0.0"),
    "gnu": sparse_gnu,
}
for form, make in SPARSE.items():
    case(f"sparse_{form}", "ok", tree={"f": b"a" + bytes(9999) + b"b" + bytes(9999)})(
        lambda make=make: make([(0, 1), (10000, 1)], 20000, b"ab")
    )
    case(f"sparse_{form}_1TiB", "too_big", "allowed")(lambda make=make: make([(0, 1)], 1 << 40, b"x"))
    case(f"sparse_{form}_end_1TiB", "too_big")(lambda make=make: make([(1 << 40, 1)], (1 << 40) + 1, b"x"))
    case(f"sparse_{form}_ratio", "too_big", "times")(lambda make=make: make([(0, 1)], 1 << 30, b"x"))
    case(f"sparse_{form}_backwards", "invalid", "overlap")(lambda make=make: make([(10000, 1), (0, 1)], 20000, b"ab"))
    case(f"sparse_{form}_overlap", "invalid", "overlap")(lambda make=make: make([(0, 2), (1, 2)], 20000, b"abcd"))
    case(f"sparse_{form}_negative", "invalid")(lambda make=make: make([(-512, 1)], 20000, b"a"))
    case(f"sparse_{form}_negative_size", "invalid")(lambda make=make: make([(0, 1)], -1, b"a"))
    case(f"sparse_{form}_overflow", "invalid", "Malformed")(
        lambda make=make: make([((1 << 63) - 1, 1)], (1 << 63) - 1, b"a")
    )
    case(f"sparse_{form}_beyond_size", "invalid")(lambda make=make: make([(0, 1), (30000, 1)], 20000, b"ab"))
    case(f"sparse_{form}_data_missing", "invalid")(lambda make=make: make([(0, 5000)], 20000, b"ab"))
case("sparse_many_pieces", "ok")(lambda: sparse_pax([(i * 2, 1) for i in range(10000)], 20000, b"x" * 10000))
# Holes are free on the disk, and are counted so: two blocks and the entry.
case("sparse_disk", "ok", disk_bytes=3 * 4096)(lambda: sparse_pax([(0, 1), (10 * MIB, 1)], 20 * MIB, b"ab"))
case("sparse_disk_too_small", "too_big", "disk", disk_bytes=3 * 4096 - 1)(
    lambda: sparse_pax([(0, 1), (10 * MIB, 1)], 20 * MIB, b"ab")
)

# --- limits ---

case("limit_archive", "too_big", "archive has", archive_bytes=10239)(lambda: tar(GOOD))
case("limit_archive_kept", "ok", archive_bytes=10240)(lambda: tar(GOOD))
case("limit_file", "too_big", "allowed", file_bytes=10)(lambda: tar(entry("f", b"x" * 11)))
case("limit_file_kept", "ok", file_bytes=11)(lambda: tar(entry("f", b"x" * 11)))
case("zip_limit_file", "too_big", "allowed", file_bytes=10)(lambda: zip_of(("f", b"x" * 11)))
case("limit_bytes", "too_big", "all files", bytes=21)(lambda: tar(entry("f", b"x" * 11), entry("g", b"x" * 11)))
case("limit_bytes_kept", "ok", bytes=22)(lambda: tar(entry("f", b"x" * 11), entry("g", b"x" * 11)))
case("limit_disk", "too_big", "disk", disk_bytes=200 * 4096)(lambda: tar(*[entry(f"f{i}", b"x") for i in range(101)]))
case("limit_disk_kept", "ok", disk_bytes=200 * 4096)(lambda: tar(*[entry(f"f{i}", b"x") for i in range(100)]))
case("limit_free_space", "retry", "space", free_bytes=1 << 60)(lambda: tar(GOOD))
case("limit_free_inodes", "retry", "inodes", free_inodes=1 << 60)(lambda: tar(GOOD))
case("limit_depth", "too_big", "deep", depth=2)(lambda: tar(entry("a/b/c/f")))
case("limit_name", "too_big", "name", name_bytes=6)(lambda: tar(entry("1234567")))
for filter_name, pack in {"tar": bytes, **FILTERS}.items():
    case(f"{filter_name}_many_files", "too_big", "entries", entries=1000)(
        lambda pack=pack: pack(tar(*[entry(f"f{i}") for i in range(1001)]))
    )
    case(f"{filter_name}_many_directories", "too_big", "entries", entries=1000)(
        lambda pack=pack: pack(tar(*[directory(f"d{i}") for i in range(1001)]))
    )
case("zip_many_files", "too_big", "entries", entries=1000)(lambda: zip_of(*[(f"f{i}", b"") for i in range(1001)]))
case("tar_many_implied_directories", "too_big", "entries", entries=1000)(
    lambda: tar(*[entry("/".join(f"{i}-{d}" for d in range(50)) + "/f") for i in range(20)])
)
case("tar_directories_count_once", "ok", entries=3)(lambda: tar(directory("a"), directory("a/b"), entry("a/b/f", b"x")))
case("tar_last_directories_count", "too_big", "entries", entries=3)(lambda: tar(entry("a/b/c/f", b"x")))
case("tar_many_symlinks", "too_big", "entries", entries=1000)(lambda: tar(*[symlink(f"l{i}", "good") for i in range(1001)]))
case("tar_directories_of_symlinks", "too_big", "entries", entries=3)(lambda: tar(symlink("a/b/c/l", "good")))
case("tar_directories_of_symlinks_kept", "ok", entries=4)(lambda: tar(symlink("a/b/c/l", "good")))
case("tar_many_hardlinks", "too_big", "entries", entries=1000)(
    lambda: tar(GOOD, *[hardlink(f"h{i}", "good") for i in range(1000)])
)
case("tar_symlink_names", "too_big", "names", memory_bytes=64 * MIB)(
    lambda: tar(*[symlink(f"l{i}", "a/" * 2000) for i in range(4500)])
)

# --- bombs ---


def zeros_tar(mib, name=b"zeros"):
    return header(name, octal(mib * MIB)) + bytes(mib * MIB) + bytes(1024)


for filter_name, pack in FILTERS.items():
    case(f"{filter_name}_bomb", "too_big", "times")(lambda pack=pack: pack(zeros_tar(80)))
    case(f"{filter_name}_bomb_many_files", "too_big", "times")(
        lambda pack=pack: pack(ended(*[member(b"f%d" % i, bytes(MIB)) for i in range(100)]))
    )
    # What is no file's data is unpacked by the filter all the same.
    case(f"{filter_name}_bomb_in_headers", "too_big", "times")(
        lambda pack=pack: pack(ended(*[pax(record(b"comment", bytes(900000))) + member(b"f%d" % i) for i in range(100)]))
    )
# A directory has no data, whatever it says: what follows is a header, and zeros are the end.
case("tar_directory_of_zeros", "ok", tree={"d": DIRECTORY})(
    lambda: header(b"d/", octal(MIB), b"5") + bytes(MIB) + tar(GOOD)
)
case("zip_bomb", "too_big", "times")(lambda: zip_of(("zeros", bytes(80 * MIB))))
case("zip_bomb_many_files", "too_big", "times")(lambda: raw_zip(*[Member(b"f%d" % i, bytes(MIB), 8) for i in range(100)]))
for filter_name, pack in FILTERS.items():
    case(f"{filter_name}_behind_the_end", "ok", tree={"good": b"x"})(lambda pack=pack: pack(tar(GOOD) + bytes(100 * MIB)))

# Many times the same compressed block: cheap to make, dear to read.
SLOW = bz2.compress(bytes(16 * MIB))


def slow_bzip2(blocks):
    return bz2.compress(header(b"zeros", octal(blocks * 16 * MIB))) + SLOW * blocks


case("limit_wall_time", "timeout", "longer", timeout_ms=300, ratio=1000000)(lambda: slow_bzip2(500))
case("limit_cpu_time", "too_big", "processor", cpu_ms=1000, ratio=1000000)(lambda: slow_bzip2(500))
case("xz_dictionary", "too_big", "memory", memory_bytes=256 * MIB)(
    lambda: lzma.compress(
        tar(GOOD), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30, "mode": lzma.MODE_FAST}]
    )
)
case("zstd_window_128MiB", "ok", tree={"good": b"x"})(lambda: zstd(tar(GOOD) + bytes(130 * MIB), "-3", "--long=27"))
case("zstd_window_2GiB", "invalid")(lambda: zstd_window(31, tar(GOOD)))
case("zstd_window_512MiB", "invalid")(lambda: zstd_window(29, tar(GOOD)))
case("zstd_window_memory", "invalid", "Allocation", memory_bytes=64 * MIB)(lambda: zstd_window(27, tar(GOOD)))


def zstd_window(log, data):
    """One raw block in a frame that asks for a window of 2^log bytes (RFC 8878, 3.1.1)."""
    assert len(data) < 128 * 1024
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(log - 10) << 3]) + (len(data) << 3 | 1).to_bytes(3, "little") + data


case("zip_of_zips", "ok", tree={"inner.zip"})(lambda: zip_of(("inner.zip", zip_of(("../evil", b"x")))))
case("gzip_of_tars", "ok", tree={"inner.tar.gz"})(
    lambda: gzip.compress(tar(entry("inner.tar.gz", gzip.compress(tar(entry("../evil", b"x"))))))
)

# --- files of a zip that share bytes: small, but much when unpacked ---


def overlapping(n):
    """One body, and n directory entries that lead to it."""
    file = Member(b"f", bytes(MIB), 8)
    body, central = local_part(file), central_part(file, 0) * n
    return body + central + end_part(n, len(central), len(body))


def quoted(n):
    """Each file's data begins with the local header of the next, in a stored block of deflate: all names and lengths are right."""
    packed, data = deflate(bytes(MIB)), bytes(MIB)
    body, ends = b"", []
    for i in reversed(range(n)):
        file = Member(b"f%04d" % i, data, 8)
        # local_part packs the data itself; what is wanted is its header with our length.
        head = local_part(Member(file.name, b"", 8, packed=len(packed), local_size=len(data), local_crc=zlib.crc32(data)))[:-2]
        body = head + packed
        ends.append((Member(file.name, data, 8, packed=len(packed)), len(body)))
        packed = b"\0" + len(head).to_bytes(2, "little") + (len(head) ^ 0xFFFF).to_bytes(2, "little") + body
        data = head + data
    central = b"".join(central_part(file, len(body) - length) for file, length in ends)
    return body + central + end_part(n, len(central), len(body))


case("zip_same_file_many_times", "invalid", "overlap")(lambda: overlapping(100))
case("zip_files_quote_each_other", "invalid", "overlap")(lambda: quoted(50))
