"""Hostile archives, made here: CASES lists each with its verdict. Nothing of this may be unpacked with a common tool outside a
throw-away machine.

python3 archives.py DIR [WORD...] writes those whose names hold all of the words, as seeds for the fuzzer or to look at.
"""

import sys
from pathlib import Path

import cases_formats
import cases_links
import cases_names
import cases_sizes
import cases_zip
from blocks import CASES

__all__ = ["CASES", "cases_formats", "cases_links", "cases_names", "cases_sizes", "cases_zip"]

if __name__ == "__main__":
    for each in CASES:
        if all(word in each.name for word in sys.argv[2:]):
            Path(sys.argv[1], each.name).write_bytes(each.make())
