"""The trainable systems, one folder each."""
