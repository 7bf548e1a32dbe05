"""The Kubernetes files: valid by schema, consistent in themselves, with commands that can start."""

import json
from pathlib import Path

import pytest
import yaml

FILES = ("indexed-job.yaml", "pytorchjob.yaml", "storage.yaml")
JOBS = ("indexed-job.yaml", "pytorchjob.yaml")


@pytest.fixture(scope="module")
def documents():
    """All objects by file name."""
    folder = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return {name: list(yaml.safe_load_all((folder / name).read_text())) for name in FILES}


def pod_specs(documents, name):
    """The pod specs of a file's job."""
    spec = documents[name][-1]["spec"]
    replicas = spec["pytorchReplicaSpecs"].values() if "pytorchReplicaSpecs" in spec else [spec]
    return [replica["template"]["spec"] for replica in replicas]


@pytest.mark.parametrize("name", ["indexed-job.yaml", "storage.yaml"])
def test_core_objects_pass_the_strict_schema(documents, name):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not here")
    for document in documents[name]:
        validator.validate(document, validator.latest_version(), strict=True)


def test_pytorchjob_passes_its_schema(documents):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((Path(__file__).parent / "pytorchjob.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(documents["pytorchjob.yaml"][0], schema)


def test_pytorchjobs_pods_pass_the_strict_schema(documents):
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not here")
    for spec in pod_specs(documents, "pytorchjob.yaml"):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": spec}
        validator.validate(pod, validator.latest_version(), strict=True)


@pytest.mark.parametrize("name", JOBS)
def test_launcher_and_training_take_the_command_line(documents, name, repo, monkeypatch):
    from torch.distributed.run import parse_args

    monkeypatch.syspath_prepend(repo)
    from train_net import argument_parser

    for spec in pod_specs(documents, name):
        container = spec["containers"][0]
        for variable in container["env"]:
            monkeypatch.setenv(variable["name"], variable.get("value", "1"))
        python, launcher, *arguments = container["command"] + container["args"]
        assert python == "python" and (repo / launcher).is_file()
        launch = parse_args(arguments)
        assert launch.training_script == "train_net.py"
        train = argument_parser().parse_args(launch.training_script_args)
        assert (repo / train.config_file).is_file()
        assert train.resume, "a replaced pod would start from the beginning"
        assert train.opts[:1] == ["OUTPUT_DIR"]


def test_indexed_jobs_numbers_of_nodes_and_gpus_agree(documents, monkeypatch):
    from torch.distributed.run import get_rdzv_endpoint, parse_args

    service, job = documents["indexed-job.yaml"]
    (spec,) = pod_specs(documents, "indexed-job.yaml")
    container = spec["containers"][0]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value", "1"))
    launch = parse_args(["train_net.py"])
    assert int(launch.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert launch.nproc_per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert launch.node_rank == 1  # the completion index, which the fixture above says is 1
    name, port = job["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert spec["subdomain"] == service["metadata"]["name"]
    assert get_rdzv_endpoint(launch) == f"{name}-0.{spec['subdomain']}:{port}"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}


def test_pytorchjobs_numbers_of_gpus_agree(documents):
    spec = documents["pytorchjob.yaml"][0]["spec"]
    for pod in pod_specs(documents, "pytorchjob.yaml"):
        limits = pod["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == spec["nprocPerNode"]


def test_preemption_is_no_failure_and_a_users_mistake_is_final(documents):
    from libra_umop.errors import EXIT_PREEMPTED, EXIT_USER_ERROR

    rules = documents["indexed-job.yaml"][-1]["spec"]["podFailurePolicy"]["rules"]
    rules = [rule for rule in rules if "onExitCodes" in rule]
    actions = {code: rule["action"] for rule in rules for code in rule["onExitCodes"]["values"]}
    assert actions == {EXIT_USER_ERROR: "FailJob", EXIT_PREEMPTED: "Ignore"}


@pytest.mark.parametrize("name", JOBS)
def test_grace_period_is_longer_than_the_wait_for_a_checkpoint(documents, name):
    for spec in pod_specs(documents, name):
        env = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
        assert int(env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", JOBS)
def test_every_volume_is_declared_and_shared_memory_is_memory(documents, name):
    for spec in pod_specs(documents, name):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == set(volumes)
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
        claims = [volume.get("persistentVolumeClaim", {}) for volume in volumes.values()]
        claims = {claim["claimName"] for claim in claims if claim}
        assert claims == {claim["metadata"]["name"] for claim in documents["storage.yaml"]}
