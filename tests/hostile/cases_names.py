"""Names of entries, in every way in which a format can write one."""

import tarfile

from blocks import CASES, DIRECTORY, FILTERS, GOOD, case, directory, ended, entry, gnu_long, header, member, pax, raw_zip
from blocks import Member, record, tar, zip_of

OUTWARD = [
    ("dotdot", "../evil", '".."'),
    ("dotdot_deep", "a/b/../../../evil", '".."'),
    ("dotdot_end", "a/..", '".."'),
    ("dotdot_inside", "a/../good2", '".."'),
    ("absolute", "/tmp/drover-evil", "absolute"),
    ("absolute_twice", "//tmp/drover-evil", "absolute"),
    ("whiteout", ".wh.good", "whiteout"),
    ("whiteout_of_a_directory", "a/.wh.b/c", "whiteout"),
    ("opaque", "d/.wh..wh..opq", "whiteout"),
]
for label, raw, rule in OUTWARD:
    name = raw.encode()
    case(f"tar_{label}", "invalid", rule)(lambda raw=raw: tar(GOOD, entry(raw, b"x")))
    case(f"tar_{label}_as_directory", "invalid", rule)(lambda raw=raw: tar(GOOD, directory(raw)))
    case(f"tar_{label}_pax", "invalid", rule)(lambda name=name: ended(pax(record(b"path", name)), member(b"harmless", b"x")))
    case(f"tar_{label}_gnu", "invalid", rule)(lambda name=name: ended(gnu_long(name + b"\0"), member(b"harmless", b"x")))
    case(f"zip_{label}", "invalid", rule)(lambda raw=raw: zip_of(("good", b"x"), (raw, b"x")))
    for filter_name, pack in FILTERS.items():
        case(f"{filter_name}_{label}", "invalid", rule)(lambda raw=raw, pack=pack: pack(tar(GOOD, entry(raw, b"x"))))

case("tar_dotdot_in_prefix", "invalid", '".."')(lambda: ended(member(b"evil", b"x", prefix=b"../..")))
case("tar_absolute_prefix", "invalid", "absolute")(lambda: ended(member(b"evil", b"x", prefix=b"/tmp")))
# A path in a global header would be one name for all files behind it; it is not taken.
case("tar_dotdot_in_global_header", "ok", tree={"harmless": b"x"})(
    lambda: ended(pax(record(b"path", b"../evil"), kind=b"g"), member(b"harmless", b"x"))
)

# --- odd, but harmless here ---

WINDOWS = ["..\\evil", "C:\\evil", "\\\\host\\share", "CON", "aux.c", "dot.", "space ", "a:stream"]
for number, raw in enumerate(WINDOWS):
    case(f"tar_windows_{number}", "ok", tree={raw: b"x"})(lambda raw=raw: tar(entry(raw, b"x")))
# Old tools of Windows write backslashes for slashes; in a zip of Unix they are part of a name.
for label, raw, host, verdict, rule, tree in [
    ("dotdot", "..\\evil", 0, "invalid", '".."', None),
    ("share", "\\\\host\\share", 0, "invalid", "absolute", None),
    ("drive", "C:\\evil", 10, "ok", "", {"C:": DIRECTORY, "C:/evil": b"x"}),
    ("directory", "d\\", 0, "ok", "", {"d": DIRECTORY}),
    ("beside_slash", "a/..\\..\\evil", 0, "ok", "", {"a": DIRECTORY, "a/..\\..\\evil": b"x"}),
    ("of_unix", "..\\evil", 3, "ok", "", {"..\\evil": b"x"}),
]:
    case(f"zip_backslash_{label}", verdict, rule, tree)(
        lambda raw=raw, host=host: raw_zip(Member(raw.encode(), b"" if raw.endswith("\\") else b"x", host=host))
    )
case("zip_device_name", "ok", tree={"CON": b"x"})(lambda: raw_zip(Member(b"CON")))

case("tar_control_characters", "ok", tree={"a\nb", "\x1b[2J"})(lambda: tar(entry("a\nb", b"x"), entry("\x1b[2J", b"x")))
case("tar_case_twins", "ok", tree={"File", "file"})(lambda: tar(entry("File", b"x"), entry("file", b"x")))
case("zip_case_twins", "ok", tree={"File", "file"})(lambda: zip_of(("File", b"x"), ("file", b"x")))
case("tar_unicode_twins", "ok", tree={"\u00e9", "e\u0301"})(lambda: tar(entry("\u00e9", b"x"), entry("e\u0301", b"x")))
case("zip_unicode_twins", "ok", tree={"\u00e9", "e\u0301"})(lambda: zip_of(("\u00e9", b"x"), ("e\u0301", b"x")))
case("tar_right_to_left", "ok", tree={"gpj.\u202eexe"})(lambda: tar(entry("gpj.\u202eexe", b"x")))
case("tar_odd_slashes", "ok", tree={"a", "a/b", "a/b/c", "d"})(lambda: tar(entry("./a//b/./c", b"x"), entry("././d", b"x")))
case("tar_file_with_slash", "ok", tree={"f": DIRECTORY})(lambda: ended(member(b"f/")))
case("tar_root_alone", "ok", tree=set())(lambda: tar(directory("."), directory("./")))
case("tar_root_as_file", "invalid", "root")(lambda: tar(entry(".", b"x")))
case("tar_root_as_link", "invalid", "root")(lambda: tar(entry(".", kind=tarfile.SYMTYPE, link="good"), GOOD))
case("tar_name_ends_at_nul", "ok", tree={"good": b"x"})(lambda: ended(member(b"good\0../evil", b"x")))
case("tar_gnu_name_ends_at_nul", "ok", tree={"good": b"x"})(
    lambda: ended(gnu_long(b"good\0../evil\0"), member(b"harmless", b"x"))
)
case("tar_nul_in_pax_path", "ok", tree={"good": b"x"})(
    lambda: ended(pax(record(b"path", b"good\0../evil")), member(b"harmless", b"x"))
)

# --- errors that show a name ---

for label, shown, rule in [
    ("escape", "\x1b[2J\n", "\\x1b"),
    ("c1", "\u009b31m", "\\xc2"),
    ("right_to_left", "gpj.\u202eexe", "\\xe2"),
    ("zero_width", "a\u200bb", "\\xe2"),
    ("byte_order_mark", "a\ufeffb", "\\xef"),
    ("line_separator", "a\u2028b", "\\xe2"),
]:
    case(f"tar_{label}_in_error", "invalid", rule)(lambda shown=shown: tar(entry("../" + shown, b"x")))

# --- not text ---

for label, raw in {
    "latin1": b"caf\xe9",
    "overlong": b"\xc0\xae\xc0\xae/evil",
    "surrogate": b"a\xed\xa0\x80",
    "beyond_unicode": b"a\xf4\x90\x80\x80",
    "cut": b"a\xe2\x82",
}.items():
    case(f"tar_{label}", "invalid", "UTF-8")(lambda raw=raw: ended(member(raw, b"x")))
    case(f"tar_{label}_pax", "invalid", "UTF-8")(lambda raw=raw: ended(pax(record(b"path", raw)), member(b"f", b"x")))
    case(f"zip_{label}", "invalid", "UTF-8")(lambda raw=raw: raw_zip(Member(raw)))
case("tar_empty_name", "invalid", "empty")(lambda: ended(header(b"")))
case("tar_empty_pax_path", "invalid")(lambda: ended(pax(record(b"path", b"")), member(b"", b"x")))
case("zip_empty_name", "invalid")(lambda: raw_zip(Member(b"")))

# --- length and depth ---

case("tar_component_255", "ok")(lambda: tar(entry("n" * 255, b"x")))
case("tar_component_too_long", "too_big", "component")(lambda: tar(entry("n" * 256, b"x")))
case("zip_component_too_long", "too_big", "component")(lambda: zip_of(("n" * 256, b"x")))
case("tar_name_4096", "ok", depth=256)(lambda: tar(entry("d" * 99 + ("/" + "d" * 99) * 39 + "/" + "e" * 96, b"x")))
case("tar_name_4097", "too_big", "name", depth=256)(lambda: tar(entry("d" * 99 + ("/" + "d" * 99) * 39 + "/" + "e" * 97, b"x")))
case("tar_name_12000", "too_big", "name")(lambda: tar(entry("d/" * 6000 + "f", b"x")))
case("tar_name_12000_gnu", "too_big", "name")(lambda: tar(entry("d/" * 6000 + "f", b"x"), form=tarfile.GNU_FORMAT))
case("zip_name_12000", "too_big", "name")(lambda: zip_of(("d/" * 6000 + "f", b"x")))
case("tar_too_deep", "too_big", "deep")(lambda: tar(entry("d/" * 65 + "f", b"x")))
case("zip_too_deep", "too_big", "deep")(lambda: zip_of(("d/" * 65 + "f", b"x")))
case("tar_deep_enough", "ok")(lambda: tar(entry("d/" * 64 + "f", b"x")))
case("tar_slashes_alone_are_not_deep", "ok", tree={"d", "d/f"})(lambda: tar(entry("d" + "/" * 1000 + "f", b"x")))

# --- twice ---

case("tar_file_twice", "invalid", "already")(lambda: tar(GOOD, entry("good", b"other")))
case("tar_file_twice_other_spelling", "invalid", "already")(lambda: tar(GOOD, entry("./good", b"other")))
case("zip_file_twice", "invalid", "already")(lambda: raw_zip(Member(b"good"), Member(b"good", b"y")))
case("tar_directory_twice", "ok", tree={"d": DIRECTORY})(lambda: tar(*[directory("d")] * 2))
case("zip_directory_twice", "ok", tree={"d": DIRECTORY})(lambda: raw_zip(Member(b"d/", b""), Member(b"d/", b"")))
case("tar_file_then_directory", "invalid", "not a directory")(lambda: tar(GOOD, directory("good")))
case("tar_directory_then_file", "invalid", "already")(lambda: tar(directory("good"), GOOD))
case("tar_file_below_file", "invalid", "not a directory")(lambda: tar(GOOD, entry("good/x", b"x")))
case("zip_file_below_file", "invalid", "not a directory")(lambda: zip_of(("good", b"x"), ("good/x", b"x")))

assert CASES
