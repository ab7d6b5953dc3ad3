"""`python -m pilot_core.local` is `pilot-local`."""

from pilot_core.local.cli import main

raise SystemExit(main())
