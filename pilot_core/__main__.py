"""`python -m pilot_core` is `pilot.py`."""

import sys

from pilot_core.pilot import main

sys.exit(main())
