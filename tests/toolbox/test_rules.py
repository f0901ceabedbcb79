"""The rule pack against its fixtures: `ruleid: X` stands above a line that X must find, `ok: X` above one it must not.

All rules run over all fixtures, so a rule that fires anywhere else fails too.
"""

import re
from pathlib import Path

import pytest

from steps import REPOSITORY, WORKFLOWS, run_step

FIXTURES = Path(__file__).parent / "rules"
RULES = WORKFLOWS / "security_assessment" / "rules"
MARK = re.compile(r"(?:#|//|/\*) (ruleid|ok): ([a-z0-9-]+)")


def marks(kind):
    """The set of (rule, file, line below the mark)."""
    found = set()
    for path in FIXTURES.iterdir():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = MARK.search(line)
            if match and match.group(1) == kind:
                found.add((match.group(2), path.name, number + 1))
    return found


def rule_texts():
    """(id, text of the rule) for every rule of the pack."""
    for path in sorted(RULES.glob("*.yaml")):
        for text in re.split(r"(?m)^  - id: ", path.read_text(encoding="utf-8"))[1:]:
            yield text.splitlines()[0], text


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    outcome = run_step("security_assessment", "semgrep", FIXTURES, tmp_path_factory.mktemp("rules") / "run")
    return {(rule, file, line) for _, rule, file, line in outcome.findings}


def test_rules_find_what_they_must(found):
    assert not marks("ruleid") - found


def test_rules_find_nothing_else(found):
    assert not found - marks("ruleid")


def test_every_rule_has_both_kinds_of_fixture():
    rules = {rule for rule, _ in rule_texts()}
    assert len(rules) >= 40
    for kind in ("ruleid", "ok"):
        assert {rule for rule, _, _ in marks(kind)} == rules


def test_every_rule_is_described():
    seen = set()
    for rule, text in rule_texts():
        assert rule not in seen
        seen.add(rule)
        assert re.search(r"(?m)^    severity: (ERROR|WARNING|INFO)$", text), rule
        assert re.search(r'(?m)^    metadata: \{cwe: "CWE-\d+: [^"]+", title: [^}]+\}$', text), rule
        assert re.search(r"(?m)^    message: \S", text), rule


def test_docs_list_no_unknown_rule():
    text = (REPOSITORY / "docs" / "WORKFLOWS.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:python|javascript|go|java|c|ruby|php|dockerfile|compose|terraform)-[a-z-]+)`", text))
    assert named <= {rule for rule, _ in rule_texts()}
