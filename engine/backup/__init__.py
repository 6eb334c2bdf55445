"""What is to be kept where, and what would be lost: the backup's decisions, without a byte being moved."""
