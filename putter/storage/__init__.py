"""Storage engines: one interface, one contract suite, several layouts."""
