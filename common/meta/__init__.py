"""What the routers agree on through Redis. The only package that imports redis."""
