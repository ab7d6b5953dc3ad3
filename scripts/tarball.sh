#!/bin/sh
# tarball.sh FILE: pilot3.tar.gz with one folder pilot3/ that holds pilot.py,
# PILOTVERSION and the packages, so that a wrapper can run
# `python3 pilot3/pilot.py`. The same sources always make the same bytes,
# whoever makes it and wherever the checkout is.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?usage: tarball.sh FILE}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/pilot3"
cd "$here"
# Only what a pilot on a worker node runs: caches, editors' leftovers and the
# PanDA server for one's own machine (pilot_core/local) stay here.
find pilot_core pilot_starter container \
    \( -name __pycache__ -o -path pilot_core/local \) -prune -o \
    -type f \( -name '*.py' -o -name py.typed -o -name wrapper.sh -o -path container/shim/docker \) \
    -exec cp --parents -p {} "$work/pilot3" \;
cp -p pilot_core/pilot.py LICENSE "$work/pilot3/"
sed -n 's/^__version__ = "\(.*\)"/\1/p' pilot_core/__init__.py >"$work/pilot3/PILOTVERSION"
# pilot3/ comes first: Rubin's wrapper takes the folder's name from there. Modes
# are set, because those of a checkout depend on somebody's umask.
tar -C "$work" --format=ustar --sort=name --owner=0 --group=0 --numeric-owner \
    --mode='u=rwX,go=rX' --mtime='2000-01-01 00:00Z' -cf "$work/pilot3.tar" pilot3
# Beside its place first: nobody ever fetches half of one.
gzip -n -9 <"$work/pilot3.tar" >"$out.part"
mv -f "$out.part" "$out"
sha256sum "$out"
