#!/bin/sh
# Style as a program: each check prints FILE:LINE: what is wrong; any output fails.
set -eu
cd "$(dirname "$0")/../.."
exec python3 tools/lint/lint.py "$@"
