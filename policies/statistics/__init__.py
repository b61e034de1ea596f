"""Statistics the policies stand on, one small file each."""
