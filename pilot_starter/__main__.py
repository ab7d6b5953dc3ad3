"""`python -m pilot_starter`."""

import sys

from pilot_starter.cli import main

sys.exit(main())
