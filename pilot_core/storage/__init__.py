"""Files to and from storage: one copy tool a file, the same contract for all."""
