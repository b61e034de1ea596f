"""The seven questions, one experiment a file: q1_minimum_signal ... q7_gdn_state. `base` says what an experiment is."""
