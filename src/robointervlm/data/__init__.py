"""Datasets: what there is (spec), how it is read (records, images), and in which proportions (mixture). No torch."""
