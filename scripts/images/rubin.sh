#!/usr/bin/env bash
# Make the image of a Rubin payload. Wheels are made here and carried in, since a build has no package index.
#
#   rubin.sh                  rubin-example:local, from examples/rubin
#   rubin.sh --recipe DIR     rubin-payload:test, from a recipe of somebody else's: DIR/pins-current.txt,
#                             DIR/pkg and DIR/docker/build.sh, which looks for wheels in DIR/wheels
#   --wheels DIR              where wheels are kept for the next time (default .run/wheels)
#
# PYTHON names the interpreter that makes the wheels; it must be of the image's version, 3.11.
# An image whose recipe has not changed is left alone. First time: 1 to 2 min; wheels there: 40 s.
set -euo pipefail

readonly label=rubin-panda-pilot.recipe
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(dirname "$(dirname "$here")")
wheels=$top/.run/wheels recipe=

die() { echo "rubin.sh: $*" >&2; exit 1; }

while [ "$#" -gt 0 ]; do
    case $1 in
        --recipe) recipe=$(cd "${2:?}" && pwd) || die "no folder $2"; shift 2 ;;
        --wheels) wheels=${2:?}; shift 2 ;;
        *) die "usage: rubin.sh [--recipe DIR] [--wheels DIR]" ;;
    esac
done

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} "$top/.venv/bin/python" python3.11 python3; do
        if "$candidate" -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "needs a Python 3.11 with pip, the version of the image (set PYTHON)"
}

# One number for everything an image is made of: the contents of the files under the given paths.
fingerprint() {
    find "$@" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | cut -d' ' -f1 |
        sha256sum | cut -c1-16
}

# up_to_date IMAGE FINGERPRINT
up_to_date() {
    [ "$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = "$2" ]
}

# make_wheels FOLDER REQUIREMENTS PACKAGE: pip fetches only what the folder does not have.
make_wheels() {
    mkdir -p "$1"
    "$python" -m pip wheel -q --wheel-dir "$1" --find-links "$1" -r "$2" "$3" ||
        die "pip could not make the wheels"
    # They come with the image's venv.
    rm -f "$1"/pip-*.whl "$1"/setuptools-*.whl
}

build_example() {
    local image=rubin-example:local source=$top/examples/rubin mark
    mark=$(fingerprint "$source/Dockerfile" "$source/requirements.txt" "$source/package")
    if up_to_date "$image" "$mark"; then
        echo "$image is there"
        return
    fi
    # pip builds a package where it lies: a copy keeps its litter out of the checkout.
    cp -r "$source/package" "$source/requirements.txt" "$source/Dockerfile" "$work/"
    make_wheels "$wheels/example" "$work/requirements.txt" "$work/package"
    mkdir "$work/context"
    cp -r "$work/Dockerfile" "$work/context/"
    cp -r "$wheels/example" "$work/context/wheels"
    docker build -q --network host --label "$label=$mark" -t "$image" "$work/context" >/dev/null
    echo "$image is ready"
}

build_recipe() {
    local image=rubin-payload:test mark
    mark=$(fingerprint "$recipe/docker" "$recipe/pkg" "$recipe/pins-current.txt")
    if up_to_date "$image" "$mark"; then
        echo "$image is there"
        return
    fi
    cp -r "$recipe" "$work/recipe"
    chmod -R u+w "$work/recipe"
    make_wheels "$wheels/recipe" "$work/recipe/pins-current.txt" "$work/recipe/pkg"
    cp -r "$wheels/recipe" "$work/recipe/wheels"
    bash "$work/recipe/docker/build.sh" current >/dev/null
    # The recipe is not ours to put a label in: one more layer without content does it.
    printf 'FROM %s\nLABEL %s=%s\n' "$image" "$label" "$mark" | docker build -q -t "$image" - >/dev/null
    echo "$image is ready"
}

docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || die "no Docker engine answers"
python=$(find_python)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/debian.sh"
if [ -n "$recipe" ]; then build_recipe; else build_example; fi
# What has lost its name and is ours: the stage that held the wheels, and the image this one replaces.
for ours in "$label" rubin-panda-pilot.stage; do
    docker image prune --force --filter "label=$ours" >/dev/null
done
