"""The main job: from a trained model to a measured, proven bundle."""
