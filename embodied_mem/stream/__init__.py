"""Streams: frame sources, bounded memories over them, sessions that never wait for an answer, and answerers."""
