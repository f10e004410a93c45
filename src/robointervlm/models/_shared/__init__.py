"""What several model families have in common, and the part of each family that needs torch."""
