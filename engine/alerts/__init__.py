"""What somebody should be told: from evidence to alerts, and which of them are worth repeating. Sends nothing."""
