"""Traffic: the simulated user that talks to the serving adapter on the embedded default."""
