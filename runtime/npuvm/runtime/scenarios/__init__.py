"""Scenario files: schema, kernels and models, oracles, the run, and its report."""
