"""In-memory twins of the seams: the same manners, decided by a seed."""
