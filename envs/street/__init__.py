"""Street navigation on panorama graphs: Touchdown, Map2Seq, a built-in town, and any split of the same format."""
