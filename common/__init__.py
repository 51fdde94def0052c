"""What router and putter both speak. Imports nothing of ours above it."""
