"""One file per operation: its `OpSpec`, the equation as a slow oracle, inputs, compile cases and bench shapes."""
