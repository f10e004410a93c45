"""The pages of `robointer app`: ask a model, browse samples and predictions."""
