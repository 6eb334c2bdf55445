"""A run goes on elsewhere: who may write it, what it resumes from, and when that happens by itself."""
