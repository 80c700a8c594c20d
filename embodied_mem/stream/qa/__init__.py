"""Questions about streams: samples, strict scoring, judges, and runs in which the stream is shut while it is asked."""
