"""The rows as a table for people: see tools/readme-table.sh."""

import json
import os
import sys

from .rows import validate

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
HEAD = ("| figure | Drover | peer | ratio | aim |", "| --- | ---: | ---: | ---: | --- |")


def _number(value, unit=""):
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text} {unit}".strip()


def _aim(row):
    if row["aim"] is None:
        return ""
    unit = row["unit"] if row["aim_of"] == "ours" else "×"
    verdict = {True: "met", False: "**missed**", None: "not measured"}[row["met"]]
    return f"{'≥' if row['aim_least'] else '≤'} {row['aim']:,.6g} {unit}, {verdict}"


def _line(row):
    name = row["text"] + (f" ({row['variant']})" if row["variant"] else "")
    cells = (_number(row["ours"], row["unit"]), _number(row["peer"], row["unit"]), _number(row["ratio"]), _aim(row))
    return f"| {name}, `{row['figure']}` | " + " | ".join(cells) + " |"


def table(document):
    """Markdown; ValueError when the document is no full run's."""
    validate(document)
    if document["quick"]:
        raise ValueError("these are the figures of a quick run")
    if document["only"]:
        raise ValueError(f"these are the figures of {', '.join(document['only'])} alone")
    machine = document["machine"]
    note = (
        f"{machine['cpus']} cores, {machine['system']}, load {machine['load_before']:g} before, {document['made_at'][:10]}; "
        "how each was measured: `tests/bench/README.md`."
    )
    return "\n".join([*HEAD, *map(_line, document["rows"]), "", note])


def insert(page, text):
    """The page with the text between the markers; ValueError unless each stands there once, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page must hold {BEGIN} and {END} once each")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def main(argv):
    only_print = argv[:1] == ["--print"]
    paths = argv[1:] if only_print else argv
    text = table(json.loads(_read(paths[0] if paths else "build/bench.json")))
    if only_print:
        print(text)
        return
    page = paths[1] if len(paths) > 1 else "README.md"
    content = insert(_read(page), text)
    with open(page + ".new", "w", encoding="utf-8") as file:
        file.write(content)
    os.rename(page + ".new", page)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"readme-table.sh: {problem}")
