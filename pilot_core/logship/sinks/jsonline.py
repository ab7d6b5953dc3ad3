"""PURE. An entry as one line of JSON, in the shape of Cloud Logging's
LogEntry.
"""

from pilot_core.logship.contract import Entry

__all__ = ["log_entry"]


def log_entry(entry: Entry) -> bytes:
    """The LogEntry as JSON, without a newline.

    Every value but the payload is of our own making and needs no escaping:
    a severity's name, an RFC 3339 time, an insert id of plain characters.
    """
    payload, severity, timestamp, insert_id = entry
    meta = f',"severity":"{severity}","timestamp":"{timestamp}","insertId":"{insert_id}"}}'
    return b'{"jsonPayload":' + payload + meta.encode()
