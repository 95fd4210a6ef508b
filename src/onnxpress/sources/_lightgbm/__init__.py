"""What the lightgbm source is made of; imports LightGBM."""
