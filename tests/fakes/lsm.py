"""Programs lsm-get and lsm-put as a site writes them: a folder as storage.

They agree with the published ones of ATLAS sites in options and exit codes.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

URL = "root://lsm.invalid//atlas"

_SCRIPT = """\
#!{python}
import os, shutil, sys, zlib
STORE, URL = {store!r}, {url!r}

def fail(code, text):
    print(*((code,) if code else ()), text)
    sys.exit(code)

def place(url):
    if not url.startswith(URL + "/"):
        fail(206, "Invalid path " + url)
    return STORE + url[len(URL):]

def adler32(path):
    with open(path, "rb") as src:
        return "%08x" % zlib.adler32(src.read())

args, options = sys.argv[1:], {{}}
while args and args[0].startswith("-"):
    options[args[0]] = args[1]
    args = args[2:]
with open(STORE + "/calls", "a") as calls:
    print(sys.argv[0].rpartition("/")[2], *sys.argv[1:], file=calls)
if os.path.exists(STORE + "/fault"):
    with open(STORE + "/fault") as fault:
        code, text = fault.readline().split(None, 1)
    os.unlink(STORE + "/fault")
    fail(int(code), text)
"""

_GET = """\
source, target = place(args[0]), args[1]
try:
    shutil.copyfile(source, target)
except OSError as err:
    fail(201, "Copy command failed: %s" % err)
"""

_PUT = """\
source, target = args[0], place(args[1])
size, sums = int(options["--size"]), options["--checksum"].split(":")[1]
if os.path.exists(target):
    same = (os.path.getsize(target), adler32(target)) == (size, sums)
    fail(212 if same else 211, "File already exists")
os.makedirs(os.path.dirname(target), exist_ok=True)
shutil.copyfile(source, target + ".part")
if os.path.getsize(target + ".part") != size:
    fail(204, "Size mismatch")
if adler32(target + ".part") != sums:
    fail(205, "Checksum mismatch")
os.rename(target + ".part", target)
print(args[1], "size", size, "adler32", sums)
"""


@contextlib.contextmanager
def lsm(folder: Path, *, on_path: bool = True) -> Iterator[Path]:
    """Both programs on PATH while the block lasts, or at least in
    `folder/bin`; yields the storage.

    A file `fault` in it with an exit code and a text makes the next call fail;
    `calls` lists them all.
    """
    store, programs = folder / "store", folder / "bin"
    store.mkdir()
    programs.mkdir()
    head = _SCRIPT.format(python=sys.executable, store=str(store), url=URL)
    for name, body in (("lsm-get", _GET), ("lsm-put", _PUT)):
        (programs / name).write_text(head + body)
        (programs / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}:{before}" if on_path else before
    try:
        yield store
    finally:
        os.environ["PATH"] = before
