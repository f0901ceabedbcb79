#!/usr/bin/env python3
"""Compares findings with the list of what must be found: both what is missed and what is false.

As a script:  compare_findings.py --expected examples/sample-project.expected.json --workflow NAME SARIF...
ends with 0 when they agree, 1 when not, 2 when a file cannot be used. As a module: read_expected, read_sarif, compare.
"""

import argparse
import json
import sys
from collections import Counter
from urllib.parse import unquote


def read_expected(path, workflow, tools=None):
    """The expected findings of a workflow, of some of its tools or all, as a list of (tool, rule, file, line)."""
    with open(path, encoding="utf-8") as file:
        rows = json.load(file)[workflow]
    return [(r["tool"], r["rule"], r["file"], r["line"]) for r in rows if tools is None or r["tool"] in tools]


def read_sarif(path):
    """The findings of a SARIF file as a list of (tool, rule, file, line), in the order of the file."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    if report.get("version") != "2.1.0":
        raise ValueError(f"{path}: not SARIF 2.1.0")
    findings = []
    for run in report["runs"]:
        tool = run["tool"]["driver"]["name"]
        for result in run.get("results", []):
            place = result["locations"][0]["physicalLocation"]
            findings.append((tool, result["ruleId"], unquote(place["artifactLocation"]["uri"]),
                             place["region"]["startLine"]))
    return findings


def compare(expected, found):
    """Returns (missed, false), each sorted. A finding reported twice counts as false once."""
    wanted, got = Counter(expected), Counter(found)
    return sorted((wanted - got).elements()), sorted((got - wanted).elements())


def describe(missed, false):
    """One line for each difference, for people."""
    return "\n".join(f"{kind}: {tool} {rule} {file}:{line}"
                     for kind, rows in (("missed", missed), ("false", false)) for tool, rule, file, line in rows)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expected", required=True, help="list of expected findings")
    parser.add_argument("--workflow", required=True, help="which workflow of the list")
    parser.add_argument("--tool", action="append", help="compare this tool only; may be repeated")
    parser.add_argument("sarif", nargs="+", help="SARIF files, taken together")
    args = parser.parse_args(argv)
    try:
        expected = read_expected(args.expected, args.workflow, args.tool)
        found = [f for path in args.sarif for f in read_sarif(path) if not args.tool or f[0] in args.tool]
    except (OSError, ValueError, KeyError, IndexError) as error:
        print(f"compare_findings: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    missed, false = compare(expected, found)
    if missed or false:
        print(describe(missed, false))
    print(f"{len(expected)} expected, {len(missed)} missed, {len(false)} false")
    return 1 if missed or false else 0


if __name__ == "__main__":
    sys.exit(main())
