"""A sample as a model is asked it, and what becomes of its reply: the same in training, evaluation and the app."""
