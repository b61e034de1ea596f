"""Probes measure a model: behaviour rates, general skill, code by execution, parity."""
