#!/bin/sh
# Makes the Python environment of this project from the hashed requirements.txt, unless it is there already.
# Usage: lab/environment.sh DIRECTORY
set -eu

venv=$1
root=$(cd "$(dirname "$0")/.." && pwd)
requirements=$root/requirements.txt
UV_CACHE_DIR=${LAB_HOME:-$HOME/.cache/integr8scode-lab}/cache/uv
export UV_CACHE_DIR

say() { printf '%s\n' "$*" >&2; }

fits() { # PROGRAM: is it a Python that the requirements are made for?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

stamp=$(cksum <"$requirements")
if [ -x "$venv/bin/python" ] && fits "$venv/bin/python" && [ "$(cat "$venv/.made-for" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

# the newest that fits; Debian's own interpreter is looked at even where another python3 comes first in PATH
python=
for each in python3.13 python3.12 python3.11 python3 /usr/bin/python3; do
    if command -v "$each" >/dev/null 2>&1 && fits "$each"; then
        python=$(command -v "$each")
        break
    fi
done
if [ -z "$python" ]; then
    say "error: no Python 3.11, 3.12 or 3.13 here (python3 is: $(python3 --version 2>&1 || true))"
    say "Install one; on Debian 12 or newer and Ubuntu 24.04: apt-get install python3 python3-venv"
    exit 1
fi

if ! [ -x "$venv/bin/python" ] || ! fits "$venv/bin/python"; then
    say "making $venv with $($python --version)"
    rm -rf "$venv"
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "$python" "$venv"
    else
        if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            if ! command -v apt-get >/dev/null 2>&1; then
                say "error: $python cannot make an environment: install its venv and ensurepip modules"
                exit 1
            fi
            say "installing python3-venv"
            as_root apt-get update -q >/dev/null
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-venv >/dev/null
        fi
        "$python" -m venv "$venv"
    fi
fi

# uv installs in seconds what takes pip minutes, and is itself among the requirements, by hash
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    uv=$venv/bin/uv
    if ! [ -x "$uv" ]; then
        only=$venv/uv-requirement.txt
        awk '/^[a-z]/ {mine = /^uv==/} mine && !/^ *#/' "$requirements" >"$only"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$only"
        rm "$only"
    fi
fi
say "installing the Python packages of requirements.txt"
"$uv" pip install --quiet --python "$venv/bin/python" --require-hashes --requirement "$requirements"
printf '%s\n' "$stamp" >"$venv/.made-for"
