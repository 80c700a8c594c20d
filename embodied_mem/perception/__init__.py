"""What turns observations into features: encoders by name, image operations, depth unprojection, token pooling."""
