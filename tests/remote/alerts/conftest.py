"""A webhook server, and alerts to send."""

from __future__ import annotations

from wavedeck.tests.servers.http_hooks import hooks

__all__ = ["hooks"]
