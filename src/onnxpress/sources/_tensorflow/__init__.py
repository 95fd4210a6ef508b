"""What the sources ``tensorflow`` and ``keras`` are made of."""
