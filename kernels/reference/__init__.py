"""Plain torch forms of the operations, on any device."""
