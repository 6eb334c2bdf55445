"""Getting code and an environment onto another machine, so that a run can be launched there."""
