"""What stands in the way of a run: asked of the server in one look, and judged with its cures."""
