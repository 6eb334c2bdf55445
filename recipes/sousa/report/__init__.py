"""What the test says of a classifier: scores with their uncertainty, and how they are written down."""
