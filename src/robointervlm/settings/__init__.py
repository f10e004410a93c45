"""What users write: YAML files, read strictly, and what is wrong with them, in sentences."""
