"""What a run is: its directory, journal, series, state, checkpoints and config. No torch outside `engine.training`."""
