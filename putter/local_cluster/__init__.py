"""A whole cluster on this machine under one supervisor: a Valkey, routers, putters.

`plan` decides who runs where, `supervisor` runs it, `output` shows and keeps what the processes
say, `state` tells other terminals how they are, and `look` is how those find out.
"""
