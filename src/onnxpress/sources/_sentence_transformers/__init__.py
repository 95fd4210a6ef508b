"""What the sentence_transformers source is made of; stands on the transformers source's rooms."""
