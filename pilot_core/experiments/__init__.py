"""What is particular to an experiment: its command, its files, how it fails."""
