"""Offers: a kernel that a package has brought, as a plan that waits for somebody to apply it.

The host's template plan says how an upgrade is done here; an offer is the same plan with the new
kernel in the place of the template's. Nothing in this room changes which kernel runs.
"""
