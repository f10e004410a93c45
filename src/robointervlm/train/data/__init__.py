"""Samples on their way to the model: dataset, augmentation, labels, kept images, the data workers."""
