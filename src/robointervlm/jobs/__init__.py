"""Work in shares: of machines, of the processes of this one, or of a Ray cluster."""
