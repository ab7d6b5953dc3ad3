"""Labels: whose a container or process is, and how a process carries them.

A container keeps its labels at the daemon. A process has no such place but
its environment, which is inherited: one variable holds the labels, a line
each, and is found again in `/proc/PID/environ` whatever session the process
went to. The same variable tells `shim/docker` which labels to put on the
containers that a payload starts itself.
"""

from collections.abc import Mapping

__all__ = ["LABELS_VARIABLE", "NAME_LABEL", "carries", "from_text", "to_text"]

#: Environment variable with the labels of a process, `key=value` lines.
LABELS_VARIABLE = "CONTAINER_LABELS"
#: Label with `ContainerSpec.name`: tells two payloads of one owner apart.
NAME_LABEL = "container.name"


def to_text(labels: Mapping[str, str]) -> str:
    """Labels as `key=value` lines.

    Raises
    ------
    ValueError
        If a key is empty or holds `=`, or either holds a line end: such a
        label could not be read back.
    """
    for key, value in labels.items():
        if not key or "=" in key or "\n" in key + value or "\0" in key + value:
            raise ValueError(f"label {key!r}={value!r} cannot be written as a line")
    return "\n".join(f"{key}={value}" for key, value in labels.items())


def from_text(text: str) -> dict[str, str]:
    """Labels from `key=value` lines; anything else is left out."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, sep, value in pairs if sep and key}


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """True if all of `wanted` are among the labels."""
    return all(labels.get(key) == value for key, value in wanted.items())
