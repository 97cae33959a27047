"""Training-free neural architecture search for NNI."""
