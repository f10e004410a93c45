"""What a scored run looks like: a Markdown table, a page with pictures, and the documented log."""
