#!/bin/sh
# sh install.sh [FOLDER]: installs the course from this folder, without a network
exec "${PYTHON:-python3}" "$(dirname "$0")/install.py" "$@"
