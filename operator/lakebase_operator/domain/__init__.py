"""What the operator knows and decides, without any I/O."""
