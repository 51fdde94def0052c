"""The S3 door: names, signatures and bodies as Amazon S3 has them."""
