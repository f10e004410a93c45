"""Sequence packing: token lengths, which samples share a sequence, and the packed sequences."""
