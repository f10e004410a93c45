"""What a training would do, before it does: the plan, and the memory it needs."""
