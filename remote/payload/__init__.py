"""Scripts that run on a training host as they are: standard library only, Python 3.8 or newer."""
