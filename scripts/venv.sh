#!/bin/sh
# venv.sh PYTHON FOLDER: a virtual environment, also on a bare Debian whose
# python3 comes without the venv module, or not at all.
set -eu
python=$1
folder=$2
[ -x "$folder/bin/pip" ] && exit 0
new_enough() {
    "$python" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, %s is %s: make PYTHON=... names another" % (sys.executable, sys.version.split()[0]))'
}
if command -v "$python" >/dev/null; then
    new_enough
elif [ "$python" != python3 ]; then
    echo "there is no $python: PYTHON=... names a Python of 3.11 or newer" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv" >&2
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "$python has no venv module; as root: apt-get install python3-venv" >&2
        exit 1
    fi
    new_enough
fi
"$python" -m venv "$folder"
