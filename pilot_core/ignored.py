"""The options of pilot3 that are accepted and change nothing here. Pure."""

from dataclasses import dataclass

__all__ = ["IGNORED", "Ignored"]


@dataclass(frozen=True, slots=True)
class Ignored:
    """One of them; `why` is said once where it matters."""

    flags: tuple[str, ...]
    why: str = ""
    takes_value: bool = True


IGNORED: tuple[Ignored, ...] = (
    Ignored(("-r", "--resource")),
    Ignored(("-s", "--site")),
    Ignored(("-w", "--workflow"), "there is one workflow"),
    Ignored(("-b", "--nocvmfs"), takes_value=False),
    Ignored(("-u", "--verifypayloadproxy"), takes_value=False),
    Ignored(("--no-pilot-log",), "the pilot's log is always kept with the job", takes_value=False),
    Ignored(("--redirect-stdout",), "redirect in the shell that starts the pilot"),
    Ignored(("--pod",), takes_value=False),
    Ignored(("--use-https",)),
    Ignored(("--use-rucio-traces",)),
    Ignored(("--rucio-host",), "no traces are sent to Rucio"),
    Ignored(("--stageout-attempts",), "a transfer is repeated as often as its time allows"),
    Ignored(("-L", "--leasetime"), "there is no stager workflow"),
    Ignored(("--input-dir",), "there are no HPC workflows"),
    Ignored(("--input-destination-dir",), "there are no HPC workflows"),
    Ignored(("--output-dir",), "the queue's storage says where outputs go"),
    Ignored(("--hpc-resource",), "there are no HPC workflows"),
    Ignored(("--hpc-mode",), "there are no HPC workflows"),
    Ignored(("--es-executor-type",), "there is no event service"),
    Ignored(("--subscribe-to-msgsvc",), "jobs do not come through the message broker", takes_value=False),
)
