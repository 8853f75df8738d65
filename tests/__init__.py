"""The tests, laid out as `src/` is; folders share their assemblers and oracles by relative imports."""
