"""What the transformers source is made of."""
