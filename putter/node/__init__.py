"""The node: verify → append → fsync (group commit) → ack."""
