"""Processes: of a training on one machine or several, of an endpoint, and how they end together."""
