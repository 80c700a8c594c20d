"""What the command ``ask`` is made of: the prompt of a running stream, and what is written."""
