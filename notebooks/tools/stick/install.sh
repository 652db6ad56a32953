#!/bin/sh
# sh install.sh [FOLDER]: installs the course from this folder, without a network
for python in "${PYTHON:-python@PYTHON@}" "${PYTHON:-python3}"; do
	if "$python" -c '' >/dev/null 2>&1; then
		exec "$python" "$(dirname "$0")/install.py" "$@"
	fi
done
echo "${PYTHON:-python3} does not start: install Python @PYTHON@, or PYTHON=/path/to/python sh install.sh" >&2
exit 1
