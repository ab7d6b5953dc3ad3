"""A process that can open nothing more."""

import contextlib
import resource
from collections.abc import Iterator

__all__ = ["no_descriptor_free"]


@contextlib.contextmanager
def no_descriptor_free() -> Iterator[None]:
    """Nothing can be opened in this process while the block lasts (EMFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
