"""Predicting (`predict`: ask a model, keep every reply) and scoring (`score`: read and measure them) are two steps."""
