"""What the Listen screen is made of: which items are listed, what can be heard, how it is read, blind tests, export."""
