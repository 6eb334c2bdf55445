"""The torch side of the engine: Lightning glue, checkpoint writing, exact resume."""
