"""Sans-I/O codecs: bytes in, events out. No socket, clock, os or redis in here."""
