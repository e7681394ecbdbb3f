"""The command `mkupgrade`: arguments in, rendering out, and the wiring of the other rooms.

Rendering and exiting happen here only. Results go to stdout; progress, logs and errors to
stderr. Nothing heavy is imported before a verb runs: `mkupgrade --help` pays for click alone.
"""
