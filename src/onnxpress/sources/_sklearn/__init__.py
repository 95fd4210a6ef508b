"""What the sklearn source is made of; imports scikit-learn."""
