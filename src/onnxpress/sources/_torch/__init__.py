"""What the torch source is made of; imports PyTorch."""
