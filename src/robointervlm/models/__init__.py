"""Models: each answers prompts in its own coordinate format. A model knows prompts and formats, not benchmarks."""
