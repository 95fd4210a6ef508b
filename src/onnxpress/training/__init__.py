"""Training a network as it will be quantised: a PyTorch module made from the int8 graph itself."""
