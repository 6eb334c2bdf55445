"""The verified backup of runs: pulled by a stream or rsync, hashed here, made durable, and only then recorded."""
