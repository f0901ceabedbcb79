#!/bin/bash
# Put the table of figures into a page, between the lines "<!-- bench -->" and "<!-- /bench -->":
#
#   tools/readme-table.sh [BENCH.json [PAGE.md]]      default: build/bench.json README.md
#   tools/readme-table.sh --print [BENCH.json]        print the table
#
# The page is replaced whole or not at all. A quick run's figures are refused: they are of other sizes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHONPATH=tests/bench exec python3 -B -m figures.table "$@"
