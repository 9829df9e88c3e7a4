"""What is said: frozen values, standard library only, no input or output, no arrays."""
