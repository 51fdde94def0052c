"""The node that owns disks, the client, and the command line."""
