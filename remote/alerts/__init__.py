"""Bringing alerts to people: webhooks, commands, the desktop, the terminal. Never in the caller's way."""
