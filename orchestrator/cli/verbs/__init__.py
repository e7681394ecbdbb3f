"""One module per verb or family of verbs; each imports what it needs when it runs."""
