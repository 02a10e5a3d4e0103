"""kubectl and helm in a directory for PATH."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from lakebase_sandbox.tools.kubectl import kubectl_path

_HELM_MODULE = "lakebase_sandbox.tools.helm"


def install_tools(directory: Path) -> None:
    """Put `kubectl` and `helm` into `directory`: the sandbox's kubectl, and the real Helm where there is one."""
    directory.mkdir(parents=True, exist_ok=True)
    _link(directory / "kubectl", kubectl_path())
    helm = directory / "helm"
    if real := _real_helm():
        _link(helm, real)
        return
    helm.unlink(missing_ok=True)
    # -P: nothing in the directory it is called from may pass for one of its modules.
    helm.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {_HELM_MODULE} "$@"\n')
    helm.chmod(0o755)


def _real_helm() -> Path | None:
    """Helm itself, which is told from another sandbox's stand-in by what is in it."""
    for directory in os.get_exec_path():
        found = shutil.which("helm", path=directory)
        if found and _HELM_MODULE.encode() not in Path(found).read_bytes()[:4096]:
            return Path(found).resolve()
    return None


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
