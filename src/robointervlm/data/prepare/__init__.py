"""Work on data before training: checking it and converting it."""
