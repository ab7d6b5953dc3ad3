"""PURE. A record that a service refuses, once more as text.

What a service cannot store as an object (a name that stands twice, levels that
it counts in its own way) it can store as a message.
"""

from pilot_core.logship import jsontext
from pilot_core.logship.contract import Entry
from pilot_core.logship.record import OURS

__all__ = ["as_text"]

_MESSAGE = "message"


def as_text(entry: Entry) -> Entry | None:
    """The same entry with the record as its message, the pilot's own fields
    beside it; None if it is no more than that already.
    """
    try:
        record = jsontext.exact(entry.payload)
    except ValueError:
        record = {}
    ours = {name: value for name, value in record.items() if name in OURS}
    is_text = len(ours) + (_MESSAGE in record) == len(record) and isinstance(record.get(_MESSAGE, ""), str)
    # Of a name that stands twice only the second value is in the object.
    if is_text and jsontext.dumps(record) == entry.payload:
        return None
    return entry._replace(payload=jsontext.dumps({**ours, _MESSAGE: entry.payload.decode()}))
