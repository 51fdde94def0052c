"""Static websites of buckets: what is set for one, where it redirects, and the door it is seen by.

`model` and `locations` decide, without any I/O; `configuration` reads and tells what is set;
`serving` answers browsers, `pages` what they see of an error.

(AWS: S3 user guide, "Hosting a static website using Amazon S3".)
"""
