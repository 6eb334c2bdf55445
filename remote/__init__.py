"""Hosts: this machine (and, behind the same protocol, others), tmux, the supervisor, GPU readings."""
