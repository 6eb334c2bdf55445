"""Runs that wait for their turn on this machine, and the process that starts them."""
