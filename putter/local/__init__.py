"""What makes one command a whole store: child processes, and a Valkey of our own."""
