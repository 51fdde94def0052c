"""Bucket policies: who may do what, as a bucket's owner writes it down. Pure.

```
parsing     JSON ──► Policy                     what is not evaluated is refused
evaluation  Policy + Question ──► Verdict       deny wins, then allow, else nothing is said
public      Policy ──► whether anybody may come in
actions     operations of the door ──► actions of the language
```
"""
