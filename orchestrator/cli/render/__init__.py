"""From data to text, tables and pictures. Everything from outside goes through `clean`."""
