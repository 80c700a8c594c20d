"""Public operations: argument checks, registered operators, gradients."""
