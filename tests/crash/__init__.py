"""A deterministic crash simulator for the engine: see docs/crash-testing.md.

python -m tests.crash --seeds 20000 --jobs 2
python -m tests.crash --seed 17 --trace
"""
