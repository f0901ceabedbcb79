"""A toolbox of tiny shell workflows, so that stories about runs do not take as long as real scanners."""

import json
import os
import shlex

VERTICAL = "story"

# One error at a.txt:1, in the words of SARIF.
FINDING = {
    "version": "2.1.0",
    "runs": [
        {
            "tool": {"driver": {"name": "story", "rules": [{"id": "planted"}]}},
            "results": [
                {
                    "ruleId": "planted",
                    "level": "error",
                    "message": {"text": "A planted flaw."},
                    "locations": [
                        {
                            "physicalLocation": {
                                "artifactLocation": {"uri": "a.txt"},
                                "region": {"startLine": 1},
                            }
                        }
                    ],
                }
            ],
        }
    ],
}

# Shell for a step: write the finding above as its report and end with "has findings".
REPORT = f"printf %s {shlex.quote(json.dumps(FINDING))} > \"$OUT/main.sarif\"; exit 10"


class Toolbox:
    """A folder for DROVER_TOOLBOX with one vertical, and the empty toolchain that goes with it.

    more: further keys of vertical.yaml, such as capacity and warm; see also vertical().
    """

    def __init__(self, folder, driver="raw_exec", image="", slots=5, window=8, **more):
        self.folder = folder
        self.toolchains = os.path.join(folder, "toolchains")
        os.makedirs(os.path.join(self.toolchains, VERTICAL, "bin"))
        self._vertical = {
            "name": VERTICAL,
            "description": "Shell scripts of the tests.",
            "driver": driver,
            **({"image": image} if image else {}),
            "slots": slots,
            "window": window,
            "classes": {
                "normal": {"cpu": "500m", "memory": "512Mi"},
                "large": {"cpu": "1000m", "memory": "1GiB"},
            },
            "tools": [{"name": "sh", "probe": ["sh", "-c", "echo 1"]}],
        }
        os.makedirs(os.path.join(folder, "verticals", VERTICAL))
        self.vertical(**more)

    def vertical(self, **changes):
        """Change keys of vertical.yaml."""
        self._vertical |= changes
        self._write(f"verticals/{VERTICAL}/vertical.yaml", self._vertical)

    def add(self, name, script, **metadata):
        """Add or replace a workflow with one step "main" that runs the shell script. Returns its name.

        metadata overrides keys of metadata.yaml. Exit code 10 means "has findings", 0 clean; the report is
        $OUT/main.sarif when the script writes one.
        """
        text = {
            "name": name,
            "version": "1.0.0",
            "vertical": VERTICAL,
            "description": "A story's workflow.",
            "parameters": {"type": "object", "additionalProperties": False, "properties": {}},
            "steps": [
                {
                    "name": "main",
                    "run": ["sh", "${WORKFLOW_DIR}/main.sh"],
                    "findings": "sarif",
                    "exit_codes": {"ok": [0], "findings": [10]},
                }
            ],
        }
        folder = os.path.join(self.folder, "workflows", name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "main.sh"), "w", encoding="utf-8") as file:
            file.write(script + "\n")
        # Last: a workflow is complete when its metadata is there.
        self._write(f"workflows/{name}/metadata.yaml", {**text, **metadata})
        return name

    def _write(self, path, content):
        """JSON is YAML. Written aside and renamed: the dispatcher watches the folder."""
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.rename(path + ".new", path)
