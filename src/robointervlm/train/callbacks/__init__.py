"""Beside the steps of a training: validation, trackers, progress, curves, previews, commands after a save."""
