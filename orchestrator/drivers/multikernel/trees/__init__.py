"""The device trees of the multikernel kernel, as values: what it is given and what it gives.

`forms` has the values, `reading` and `writing` their trees, `overlay` the changes and their tags.
"""
