"""The pipeline and its doors. Keeps nothing that matters: run as many as you like."""
