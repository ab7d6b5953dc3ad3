#!/bin/sh
# tarball.sh FILE: pilot3.tar.gz with one folder pilot3/ that holds pilot.py,
# PILOTVERSION and the packages, so that a wrapper can run
# `python3 pilot3/pilot.py`. The same tree always makes the same bytes.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
out=$1
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/pilot3"
cd "$here"
for package in pilot_core pilot_starter container; do
    find "$package" -name __pycache__ -prune -o -type f -exec cp --parents -p {} "$work/pilot3" \;
done
cp pilot_core/pilot.py LICENSE "$work/pilot3/"
sed -n 's/^__version__ = "\(.*\)"/\1/p' pilot_core/__init__.py >"$work/pilot3/PILOTVERSION"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime='2000-01-01 00:00Z' -cf - pilot3 |
    gzip -n -9 >"$out"
sha256sum "$out"
