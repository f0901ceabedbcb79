"""Symbolic and hard links, special files, modes and attributes."""

import stat
import tarfile

from blocks import DIRECTORY, FILTERS, GOOD, Member, case, directory, ended, entry, gnu_long, hardlink, header, member, octal, pax
from blocks import raw_zip, record, symlink, tar, zip_link, zip_mode, zip_of

# --- symbolic links ---

for label, target, rule in [
    ("out", "../../etc", "outside"),
    ("out_by_one", "..", "outside"),
    ("out_and_in", "../root/good", "outside"),
    ("out_through_name", "a/../../good", "outside"),
    ("absolute", "/etc/passwd", "absolute"),
    ("proc", "/proc/self/root/etc/passwd", "absolute"),
    ("slashes", "//etc/passwd", "absolute"),
]:
    case(f"tar_symlink_{label}", "invalid", rule)(lambda target=target: tar(GOOD, symlink("l", target)))
    case(f"tar_symlink_{label}_pax", "invalid", rule)(
        lambda target=target: ended(pax(record(b"linkpath", target.encode())), header(b"l", kind=b"2", link=b"good"))
    )
    case(f"tar_symlink_{label}_gnu", "invalid", rule)(
        lambda target=target: ended(gnu_long(target.encode() + b"\0", b"K"), header(b"l", kind=b"2", link=b"good"))
    )
    case(f"zip_symlink_{label}", "invalid", rule)(lambda target=target: zip_of(("good", b"x"), zip_link("l", target)))
    for filter_name, pack in FILTERS.items():
        case(f"{filter_name}_symlink_{label}", "invalid", rule)(
            lambda target=target, pack=pack: pack(tar(GOOD, symlink("l", target)))
        )

case("tar_symlink_before_its_target", "ok", tree={"l": "-> d/f", "d": DIRECTORY, "d/f": b"x"})(
    lambda: tar(symlink("l", "d/f"), entry("d/f", b"x"))
)
case("tar_symlink_to_root", "ok", tree={"d": DIRECTORY, "d/l": "-> .."})(lambda: tar(symlink("d/l", "..")))
case("tar_symlink_to_itself", "ok", tree={"l": "-> l"})(lambda: tar(symlink("l", "l")))
case("tar_symlink_loop", "ok", tree={"a": "-> b", "b": "-> a"})(lambda: tar(symlink("a", "b"), symlink("b", "a")))
case("tar_symlink_to_nothing", "ok", tree={"l": "-> missing"})(lambda: tar(symlink("l", "missing")))
case("tar_symlink_empty", "invalid", "target")(lambda: ended(header(b"l", kind=b"2")))
case("zip_symlink_empty", "invalid", "target")(lambda: zip_of(zip_link("l", "")))
case("tar_symlink_4095", "ok")(lambda: tar(symlink("l", "a/" * 2047 + "b")))
case("tar_symlink_too_long", "too_big", "target")(lambda: tar(symlink("l", "a/" * 2048)))
case("zip_symlink_too_long", "too_big", "target")(lambda: zip_of(zip_link("l", "a/" * 2048)))
case("zip_symlink_of_2_MiB", "invalid")(lambda: zip_of(zip_link("l", "a/" * (1 << 20))))
case("tar_symlink_not_utf8", "invalid", "UTF-8")(lambda: ended(header(b"l", kind=b"2", link=b"caf\xe9")))
case("tar_symlink_with_data", "invalid", "Damaged")(lambda: ended(member(b"l", b"../evil", kind=b"2", link=b"good")))
case("tar_symlink_up_and_down", "invalid", "inside")(lambda: tar(symlink("p/q/up", "../.."), symlink("p/q/out", "up/..")))
case("tar_symlink_up_and_down_inside", "ok")(
    lambda: tar(symlink("p/q/up", ".."), symlink("p/q/in", "up/../good"), GOOD)
)
case("tar_symlink_through_nothing", "invalid", "inside")(lambda: tar(symlink("l", "missing/../good"), GOOD))
case("tar_through_symlink", "invalid", "already")(
    lambda: tar(symlink("d", "e"), entry("e/f", b"x"), entry("d/evil", b"x"))
)
case("tar_through_symlink_first", "invalid", "already")(lambda: tar(entry("d/evil", b"x"), symlink("d", "e")))
case("tar_directory_becomes_symlink", "invalid", "already")(
    lambda: tar(directory("d"), symlink("d", "."), entry("d/evil", b"x"))
)
case("tar_symlink_becomes_directory", "invalid", "already")(lambda: tar(symlink("d", "."), directory("d")))
case("tar_symlink_becomes_file", "invalid", "already")(lambda: tar(symlink("f", "good"), GOOD, entry("f", b"x")))
case("tar_symlink_twice", "invalid", "already")(lambda: tar(symlink("l", "good"), symlink("l", "good"), GOOD))
case("zip_symlink_twice", "invalid", "already")(
    lambda: raw_zip(*[Member(b"l", b"good", mode=stat.S_IFLNK | 0o777)] * 2)
)
case("tar_symlink_cur_par", "invalid")(
    lambda: tar(symlink("cur", "."), symlink("par", "cur/.."), entry("par/evil", b"x"))
)
case("tar_symlink_below_symlink", "invalid", "not a directory")(lambda: tar(symlink("a", "."), symlink("a/b", "good")))


@case("tar_symlinks_longer_than_a_path", "invalid", "inside")
def longer_than_a_path():
    """A check that resolves names by text gives up above PATH_MAX, and the kernel goes on (CVE-2025-4517)."""
    parts, long_name, path = [], "d" * 247, ""
    for step in "abcdefghijklmnop":
        parts += [directory(f"{path}{long_name}"), symlink(f"{path}{step}", long_name)]
        path += f"{long_name}/"
    short = "/".join("abcdefghijklmnop")
    return tar(*parts, symlink("up", f"{short}/" + "../" * 16), symlink("out", "up/../etc"))


# --- hard links ---

for label, target, rule in [
    ("absolute", "/etc/passwd", "absolute"),
    ("dotdot", "../../etc/passwd", '".."'),
    ("missing", "missing", "came before"),
    ("root", ".", "came before"),
    ("itself", "h", "came before"),
]:
    case(f"tar_hardlink_{label}", "invalid", rule)(lambda target=target: tar(GOOD, hardlink("h", target)))
    case(f"tar_hardlink_{label}_pax", "invalid", rule)(
        lambda target=target: ended(pax(record(b"linkpath", target.encode())), header(b"h", kind=b"1", link=b"good"))
    )
case("tar_hardlink_to_symlink", "invalid", "came before")(lambda: tar(symlink("s", "good"), GOOD, hardlink("h", "s")))
case("tar_hardlink_through_symlink", "invalid", "came before")(
    lambda: tar(symlink("s", "d"), entry("d/f", b"x"), hardlink("h", "s/f"))
)
case("tar_hardlink_to_directory", "invalid", "came before")(lambda: tar(directory("d"), hardlink("h", "d")))
case("tar_hardlink_forward", "invalid", "came before")(lambda: tar(hardlink("h", "good"), GOOD))
case("tar_hardlink_over_file", "invalid", "already")(lambda: tar(GOOD, entry("f", b"y"), hardlink("f", "good")))
case("tar_file_over_hardlink", "invalid", "already")(lambda: tar(GOOD, hardlink("h", "good"), entry("h", b"evil")))
case("tar_hardlink_of_hardlink", "ok", tree={"good": b"x", "a": DIRECTORY, "a/h": b"x", "i": b"x"})(
    lambda: tar(GOOD, hardlink("a/h", "good"), hardlink("i", "a/h"))
)
case("tar_hardlink_bomb", "too_big", "all files", bytes=1000)(
    lambda: tar(entry("f", b"x" * 100), *[hardlink(f"h{i}", "f") for i in range(20)])
)
case("tar_hardlink_with_data", "invalid", "Damaged")(
    lambda: ended(member(b"good", b"x"), member(b"h", b"evil", kind=b"1", link=b"good"))
)
case("tar_hardlink_with_data_pax", "invalid", "carries data")(
    lambda: ended(member(b"good", b"x"), pax(record(b"comment", b"y")), member(b"h", b"evil", kind=b"1", link=b"good"))
)
case("tar_hardlink_of_mode", "ok", tree={"good": b"x", "h": b"x"})(
    lambda: ended(member(b"good", b"x"), header(b"h", kind=b"1", link=b"good", mode=b"0104777"))
)

# --- special files ---

DEVICES = {"char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}
for label, kind in DEVICES.items():
    for form_name, form in {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}.items():
        case(f"tar_{label}_{form_name}", "invalid", "it is a")(
            lambda kind=kind, form=form: tar(GOOD, entry("dev", kind=kind), form=form)
        )
    for filter_name, pack in FILTERS.items():
        case(f"{filter_name}_{label}", "invalid", "it is a")(
            lambda kind=kind, pack=pack: pack(tar(GOOD, entry("dev", kind=kind)))
        )
for label, kind in {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK}.items():
    case(f"zip_{label}", "invalid", "device, fifo")(lambda kind=kind: zip_of(("good", b"x"), (zip_mode("p", kind | 0o644), b"")))
case("tar_device_in_mode_field", "ok", tree={"f": b"x"})(lambda: ended(member(b"f", b"x", mode=b"0020644")))
for label, kind in {"contiguous": b"7", "old": b"\0", "unknown": b"Z"}.items():
    case(f"tar_type_{label}", "ok", tree={"f": b"x"})(lambda kind=kind: ended(member(b"f", b"x", kind=kind)))
case("tar_type_volume_label", "ok", tree={"f": b"x"})(
    lambda: ended(header(b"label", kind=b"V", magic=b"ustar  \0"), member(b"f", b"x"))
)
case("tar_type_multi_volume", "invalid", "no known type")(lambda: ended(member(b"f", b"x", kind=b"M", magic=b"ustar  \0")))
case("tar_type_dump_directory", "ok", tree={"d": DIRECTORY})(lambda: ended(member(b"d", b"Yf\0\0", kind=b"D", magic=b"ustar  \0")))

# --- modes, times, attributes ---

case("tar_setuid", "ok", tree={"f": b"x"})(lambda: tar(entry("f", b"x", mode=0o7777)))
case("zip_setuid", "ok", tree={"f": b"x"})(lambda: zip_of((zip_mode("f", stat.S_IFREG | 0o7777), b"x")))
case("tar_mode_000", "ok", tree={"d": DIRECTORY, "d/f": b"x"})(lambda: tar(directory("d", mode=0), entry("d/f", b"x", mode=0)))
case("zip_mode_000", "ok", tree={"d": DIRECTORY, "d/f": b"x"})(
    lambda: zip_of((zip_mode("d/", stat.S_IFDIR), b""), (zip_mode("d/f", stat.S_IFREG), b"x"))
)
case("tar_mode_is_not_a_number", "invalid", "Unrecognized")(lambda: ended(member(b"f", b"x", mode=b"zzzzzzz\0")))
for number, attribute in enumerate(
    [
        "SCHILY.xattr.user.evil", "SCHILY.xattr.security.capability", "SCHILY.xattr.trusted.overlay.opaque",
        "LIBARCHIVE.xattr.user.evil", "SCHILY.acl.access", "SCHILY.acl.default", "SCHILY.fflags", "RHT.security.selinux",
    ]
):
    case(f"tar_attribute_{number}", "ok", tree={"f": b"x"})(
        lambda attribute=attribute: tar(entry("f", b"x", pax={attribute: "user:0:rwx" if "acl" in attribute else "y"}))
    )
for label, value in {
    "negative": b"-1", "huge": b"99999999999999999999", "year_10000": b"253402300800", "fraction": b"1.999999999999",
    "nan": b"nan", "text": b"yesterday", "float": b"1e400", "empty": b"",
}.items():
    case(f"tar_mtime_{label}", "ok", tree={"f": b"x"})(
        lambda value=value: ended(pax(record(b"mtime", value)), member(b"f", b"x"))
    )
case("tar_mtime_base256", "ok", tree={"f": b"x"})(lambda: ended(member(b"f", b"x", mtime=b"\xff" * 12)))
case("tar_uid_huge", "ok", tree={"f": b"x"})(
    lambda: ended(pax(record(b"uid", b"99999999999999999999") + record(b"gid", b"-1")), member(b"f", b"x"))
)
case("tar_size_of_directory", "ok", tree={"d": DIRECTORY, "f": b"x"})(
    lambda: ended(header(b"d", octal(512), b"5"), member(b"f", b"x"))
)
