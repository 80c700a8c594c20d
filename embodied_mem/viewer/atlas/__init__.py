"""The page of a memory atlas, made from its result alone."""
