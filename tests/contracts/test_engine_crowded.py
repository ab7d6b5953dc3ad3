"""The kubernetes engine on a node that has no thread left for it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from container.errors import StartError
from container.kube_api import Cluster
from container.kube_engine import KubeEngine
from container.spec import ContainerSpec
from pilot_core.base.clock import SystemClock
from tests.fakes.kube_api import HOME, KubeApi
from tests.fakes.pki import make_pki


class Crowded(Cluster):
    """The node has no thread for us from the moment the pod is created."""

    def create(self, manifest: dict[str, Any], *, dry_run: bool = False) -> Any:
        made: Any = super().create(manifest, dry_run=dry_run)
        # No thread can have a stack larger than the address space.
        threading.stack_size(1 << 47)
        return made

    def delete(self, name: str, uid: str, *, grace_s: int, within_s: float | None = None) -> None:
        # The server lives in this process, too.
        threading.stack_size(0)
        super().delete(name, uid, grace_s=grace_s, within_s=within_s)


def test_no_thread_to_follow_a_pod_is_a_failed_start(tmp_path: Path) -> None:
    spec = ContainerSpec(
        name="panda-7",
        argv=("true",),
        workdir=str(tmp_path),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
        # For one that is there the kubelet of this test needs a thread itself.
        image="127.0.0.1:9/no/such:image",
    )
    with KubeApi(tmp_path, make_pki(tmp_path), shared=tmp_path) as api:
        cluster = Crowded(account=api.account, environment=api.environment, call_s=5.0)
        engine = KubeEngine(cluster, pod=HOME, clock=SystemClock(), cgroup_root=api.cgroup_root)
        try:
            with pytest.raises(StartError, match="can't start new thread"):
                engine.start(spec)
        finally:
            threading.stack_size(0)
        assert not api.payloads()
        engine.close()
