"""A stand-in for the pilot: real process, real signals, told what to do by
FAKE_*.

FAKE_EXIT             exit code (default 0)
FAKE_SAY              a file whose bytes go to stdout as they are
FAKE_RUN_S            stay alive for so long
FAKE_ON_TERM          `exit` (default): 143 at once; `ignore`
FAKE_ORPHAN           leave a detached process behind that holds stdout open
FAKE_KILL_SELF        die by this signal number
FAKE_LEDGER           write pilot_job_state.json like this file, as its owner
FAKE_NOTES            append what is seen (arguments, signals) to this file,
JSON lines
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

notes = os.environ.get("FAKE_NOTES")
done = threading.Event()


def note(**what: object) -> None:
    if notes:
        with open(notes, "a") as out:
            out.write(json.dumps(what) + "\n")


def on_signal(signum: int, _frame: object) -> None:
    note(signal=signal.Signals(signum).name)
    how = os.environ.get("FAKE_ON_TERM", "exit")
    if signum in (signal.SIGUSR1, signal.SIGUSR2) or how == "ignore":
        return
    if how == "exit":
        os._exit(128 + signum)


for signum in (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
    signal.SIGXCPU,
):
    signal.signal(signum, on_signal)

note(
    argv=sys.argv[1:],
    program=sys.argv[0],
    pid=os.getpid(),
    pgid=os.getpgid(0),
    cwd=os.getcwd(),
    env=dict(os.environ),
    python=sys.executable,
)
if "FAKE_LEDGER" in os.environ:
    with open(os.environ["FAKE_LEDGER"]) as src, open("pilot_job_state.json", "w") as out:
        document = json.load(src)
        document["held"]["pid"] = os.getpid()
        json.dump(document, out)
if "FAKE_SAY" in os.environ:
    with open(os.environ["FAKE_SAY"], "rb") as src:
        shutil.copyfileobj(src, sys.stdout.buffer)
        sys.stdout.buffer.flush()
if "FAKE_ORPHAN" in os.environ:
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(orphan=orphan.pid)
sys.stdout.write("fake pilot is up\n")
sys.stdout.flush()
note(up=True)
if "FAKE_KILL_SELF" in os.environ:
    number = int(os.environ["FAKE_KILL_SELF"])
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
done.wait(float(os.environ.get("FAKE_RUN_S", "0")))
sys.stdout.flush()
os._exit(int(os.environ.get("FAKE_EXIT", "0")))
