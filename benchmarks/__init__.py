"""What must be true of Wavedeck, measured: `make bench`. Never a timed test, which a busy machine makes a coin toss."""
