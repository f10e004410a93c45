"""Fine-tuning: samples to labelled tokens, the loop, the optimizer, checkpoints."""
