"""An audit on a Ray cluster, one machine of which is lost on the way; and the options that go with it."""

import pytest
import yaml

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}


@pytest.mark.slow
def test_an_audit_that_loses_a_machine_ends_as_the_serial_one(tiny_config, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the executor ray needs the package ray")
    from ray.cluster_utils import Cluster

    from bitleak.cli import audit_progress, main
    from bitleak.engine.executors.ray_cluster import QUIET

    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_config))
    for name in QUIET:
        monkeypatch.setenv(name, "0")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**NODE, "include_dashboard": False, "no_monitor": True},
    )
    try:
        lost = cluster.add_node(**NODE)
        trained = []

        def lose_after_two(watch, event, on_event=audit_progress.TaskBar.on_event):
            on_event(watch, event)
            if event.kind == "finished" and event.task.stage == "train":
                trained.append(event.task.key)
                if len(trained) == 2:
                    cluster.remove_node(lost, allow_graceful=False)

        monkeypatch.setattr(audit_progress.TaskBar, "on_event", lose_after_two)
        for name, more in {
            "serial": ["--executor", "serial"],
            "ray": ["--executor", "ray", "--address", cluster.address],
        }.items():
            trained[:] = [""] * 9 if name == "serial" else []
            arguments = ["--out", tmp_path / name, "--store", tmp_path / f"{name}-store", *more]
            assert main(["audit", str(config), *map(str, arguments)]) == 0
        assert len(trained) == 6
        assert not ray.is_initialized()  # what the audit had joined it has left
    finally:
        cluster.shutdown()
    assert (tmp_path / "ray" / "results.csv").read_bytes() == (
        tmp_path / "serial" / "results.csv"
    ).read_bytes()


def test_options_of_ray_are_refused_elsewhere(bitleak, tiny):
    code, _, err = bitleak(
        "audit", "config.yaml", "--executor", "serial", "--num-gpus", "0.5", config=tiny
    )
    assert (code, err) == (
        2,
        "error: --address, --num-cpus and --num-gpus are for --executor ray\n",
    )
