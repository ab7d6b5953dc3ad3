"""The public API for others: Harvester, scripts, notebooks."""
