"""One adapter a log service; each imports its own library, and only when used."""
