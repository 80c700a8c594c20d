"""What each memory can do: every memory on every probe under one CPU budget, as a table and an HTML atlas."""
