"""nano: the embedded model. A Qwen3.5 hybrid of a few million parameters and the small world it was trained in.

`world`, `phrases`, `grammar`, `checker` and `user` are plain Python; only training and evaluation import torch.
"""

from pathlib import Path

WEIGHTS: Path = Path(__file__).parent / "weights"
DATA: Path = Path(__file__).parent / "data"
