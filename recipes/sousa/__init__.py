"""SOUSA: which of the forty drum rudiments is being played."""
