"""The nouns everything else is written in: coordinates, answers, samples, prompts. No torch, no files."""
