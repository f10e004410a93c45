"""`robointer data …`: one module per command."""
