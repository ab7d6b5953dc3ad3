"""Names that say that something is secret: of variables and of files.

The one place for both. `pilot_starter/wrapper.sh`, which runs before there is
any Python, holds a copy of the words; a test compares the two.
"""

import fnmatch
from collections.abc import Iterable

__all__ = ["SECRETS", "SECRET_FILES", "SECRET_WORDS", "secret_file", "secret_variable"]

#: The job's user secrets in its folders, mode 0600; no log, no bundle. pilot3's
#: name, which payload scripts open.
SECRETS = "panda_secrets.json"

#: A variable with one of these in its name, in any case, holds a secret or the
#: path of one: SLURM_JWT, LSST_DB_PASS, MYSQL_PWD, PBS_COOKIE, _CONDOR_CREDS...
SECRET_WORDS = ("secret", "token", "jwt", "pass", "_pwd", "cred", "key", "private", "cookie", "auth")

#: Patterns of file names, in lower case, that never go into a bundle.
#: `x509up_u<uid>` is what grid tools call a proxy.
SECRET_FILES = (
    "*secret*",
    "x509*",
    "*proxy*",
    "*.pem",
    "*.key",
    "*.token",
    "*credential*",
)


def secret_variable(name: str) -> bool:
    """Whether a variable of this name is taken for a secret."""
    lower = name.lower()
    return any(word in lower for word in SECRET_WORDS)


def secret_file(name: str, patterns: Iterable[str] = SECRET_FILES) -> bool:
    """Whether a file or folder of this name is taken for a secret."""
    lower = name.lower()
    return any(fnmatch.fnmatchcase(lower, pattern) for pattern in patterns)
