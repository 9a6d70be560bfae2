"""Studies on Slurm: what jobs are asked for, and, slowly, a real Slurm of this machine alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustmix.errors import UsageError
from robustmix.signals import StopRequest
from robustmix.studies import slurm
from robustmix.studies.commands import Launch, train_command
from robustmix.studies.folder import require_study_in
from robustmix.studies.formats import render
from robustmix.studies.grid import study_runs
from robustmix.studies.run_state import LOGS, read_failure
from robustmix.studies.running import Outcome, tasks_of
from robustmix.studies.slurm import SlurmOptions, parse_slurm, run_on_slurm, slurm_states
from robustmix.studies.study import Study, read_study, study_of
from robustmix.studies.study_results import study_table
from tests.studies.test_running import Told

ROOT = Path(__file__).parents[2]

GRID = {"dataset": "digits", "arch": "resnet8", "method": ["vanilla", "mixup"], "epochs": 3}


def test_what_jobs_are_asked_for() -> None:
    asked = parse_slurm("partition=gpu, time=1-02:00:30, gpus=2, cpus=4, qos=low, licenses=x:1")
    assert asked == SlurmOptions(
        parameters={
            "time": 26 * 60 + 1,
            "partition": "gpu",
            "gpus_per_node": 2,
            "cpus_per_task": 4,
            "qos": "low",
            "additional_parameters": {"licenses": "x:1"},
        },
        gpus=2,
    )
    assert parse_slurm("") == SlurmOptions(parameters={"time": 24 * 60}, gpus=0)
    for text in ("time", "time=", "=5", "a b=3", "time=0", "time=1:2:3:4", "gpus=x", "signal=9"):
        with pytest.raises(UsageError, match="slurm"):
            parse_slurm(text)
    with pytest.raises(UsageError, match="partition twice"):
        parse_slurm("partition=a,partition=b")


def test_sbatch_takes_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    executor = submitit.SlurmExecutor(folder=tmp_path)
    asked = parse_slurm("partition=gpu,time=4:00:00,gpus=1,licenses=x:1")
    executor.update_parameters(**asked.parameters)
    text = executor._make_submission_file_text("true", "1")
    for line in ("partition=gpu", "time=240", "gpus-per-node=1", "licenses=x:1"):
        assert f"#SBATCH --{line}\n" in text


def test_a_run_of_several_gpus_is_started_by_torchrun(tmp_path: Path) -> None:
    run = study_runs(study_of({"grid": GRID}, "mine", "mine.toml"))[0]
    words = train_command(run, tmp_path, Launch(processes=2, imports=("x.py",)))
    assert words[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "robustmix", "--import", "x.py", "train", "--out", str(tmp_path)),
        *("--device", "auto", "--progress", "plain"),
    ]


class FakeSlurm:
    """A queue in memory, whose jobs do as they are told when they are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue: dict[str | None, str] = {}
        self.submitted: list[list[str]] = []
        self.looks = 0
        self.ends: dict[str, str] = {}
        monkeypatch.setattr(slurm, "_submit", self.submit)
        monkeypatch.setattr(slurm, "queued_jobs", self.look)
        monkeypatch.setattr(slurm, "POLL_S", 0.01)
        monkeypatch.setattr(slurm, "GONE_S", 0.05)
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
        self.jobs: dict[str, slurm.RunJob] = {}

    def submit(
        self,
        jobs: list[slurm.RunJob],
        options: SlurmOptions,
        folder: Path,
        at_once: int | None,
    ) -> None:
        self.submitted.append([job.task.run.labels["method"] for job in jobs])
        for i, job in enumerate(jobs):
            number = f"{len(self.submitted)}_{i}"
            self.jobs[number] = job
            self.queue[number] = "PENDING"
            folder = job.task.folder / LOGS
            folder.mkdir(parents=True, exist_ok=True)
            (folder / slurm.JOB_FILE).write_text(json.dumps({"job": number}))

    def look(self) -> dict[str | None, str]:
        self.looks += 1
        if self.looks == 3:
            self.queue = dict.fromkeys(self.queue, "RUNNING")
        if self.looks == 6:
            for number in [*self.queue]:
                self.end(self.jobs[str(number)])
            self.queue = {}
        return dict(self.queue)

    def end(self, job: slurm.RunJob) -> None:
        folder = job.task.folder
        if self.ends.get(job.task.run.labels["method"]) == "lost":
            (folder / LOGS / "train.log").write_text("one\ntwo\n")
            return
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.pth").touch()
        (folder / "metrics.jsonl").write_text('{"epoch": 3}\n')


def on_fake(tmp_path: Path, told: Told, stop: StopRequest | None = None) -> Outcome:
    runs = study_runs(study_of({"grid": GRID}, "mine", "mine.toml"))
    return run_on_slurm(
        tasks_of(runs, tmp_path / "runs"),
        parse_slurm(""),
        folder=tmp_path / "slurm",
        at_once=None,
        evaluation=None,
        launch=Launch(),
        watch=told,
        stop=stop or StopRequest(),
        lacking={},
    )


def test_jobs_are_submitted_once_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, told = FakeSlurm(monkeypatch), Told()
    outcome = on_fake(tmp_path, told)
    assert outcome.exit_code == 0
    assert fake.submitted == [["vanilla", "mixup"]]
    assert [what for what, _ in told.lines] == ["job 1_0:", "job 1_1:", "done", "done"]
    assert on_fake(tmp_path, Told()).exit_code == 0
    assert len(fake.submitted) == 1


def test_jobs_that_are_in_the_queue_are_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSlurm(monkeypatch)
    stop = StopRequest()
    stop.signal = 2
    outcome = on_fake(tmp_path, Told(), stop)
    assert (outcome.exit_code, len(outcome.unfinished)) == (130, 2)
    names = [run.name for run in study_runs(study_of({"grid": GRID}, "mine", "mine.toml"))]
    folders = [tmp_path / "runs" / name for name in names]
    assert slurm_states(folders) == dict.fromkeys(names, "PENDING")
    assert on_fake(tmp_path, Told()).exit_code == 0
    assert len(fake.submitted) == 1


def test_a_job_that_is_lost_is_a_failed_run_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSlurm(monkeypatch)
    fake.ends["mixup"] = "lost"
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "1_1_0_log.err").write_text("slurmstepd: killed\n")
    told = Told()
    outcome = on_fake(tmp_path, told)
    assert outcome.exit_code == 4
    ((task, _failure),) = outcome.failed.values()
    assert task.run.labels["method"] == "mixup"
    (failure,) = told.failures
    assert failure.error.splitlines() == ["it ended early (job 1_1)", "    slurmstepd: killed"]
    assert read_failure(task.folder) is None  # the next attempt finds nothing in its way


# A real Slurm, of which everything below is slow: the jobs wait for the scheduler.


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Bring up a Slurm of one node; its environment."""
    folder = tmp_path_factory.mktemp("slurm")
    script = str(ROOT / "scripts" / "slurm_node")
    up = subprocess.run([script, "up", str(folder)], capture_output=True, text=True)
    if up.returncode == 77:
        pytest.skip(up.stderr.strip())
    assert up.returncode == 0, up.stderr
    environ = {**os.environ, "SLURM_CONF": up.stdout.strip(), "OMP_NUM_THREADS": "1"}
    yield environ
    subprocess.run([script, "down", str(folder)], check=True)


def study(environ: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "robustmix", "study", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def shown(out: Path) -> str:
    text = render(study_table(require_study_in(out), out / "runs"), "json")
    return text.replace(f"/{out.name}/", "/here/")


@pytest.mark.slow
def test_quick_on_slurm_has_the_table_of_quick_here(node: dict[str, str], tmp_path: Path) -> None:
    few = ["--only", "method=vanilla,automix"]
    words = ["run", "quick", "--progress", "plain", *few]
    on_slurm = study(node, *words, "--out", str(tmp_path / "jobs"), "--launcher", "slurm")
    assert on_slurm.returncode == 0, on_slurm.stderr
    assert on_slurm.stderr.count("done ") == 4
    here = study(node, *words, "--out", str(tmp_path / "here"), "--jobs", "2")
    assert here.returncode == 0, here.stderr
    assert shown(tmp_path / "jobs") == shown(tmp_path / "here")


LONGER = """
statistic = "last"
grid = { dataset = "digits", arch = "resnet8", method = "automix", epochs = 12 }
"""


@pytest.mark.slow
def test_a_requeued_job_continues_exactly(node: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "longer.toml"
    path.write_text(LONGER)
    out, alone = tmp_path / "jobs", tmp_path / "alone"
    words = ["study", "run", str(path), "--progress", "plain", "--launcher", "slurm"]
    process = subprocess.Popen(
        [sys.executable, "-m", "robustmix", *words, "--out", str(out)],
        env=node,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = out / "runs" / study_runs(study_of_file(path))[0].name
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.2)
    begun = len((run / "metrics.jsonl").read_text().splitlines())
    job = json.loads((run / LOGS / slurm.JOB_FILE).read_text())["job"]
    subprocess.run(["scontrol", "requeue", job], env=node, check=True)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert 1 <= begun < 12
    log = next((out / "slurm").glob(f"{job}_*_log.out")).read_text()
    assert len(re.findall(r"^train ", log, re.MULTILINE)) >= 1
    done = study(node, "run", str(path), "--out", str(alone))
    assert done.returncode == 0, done.stderr
    same = [folder / "runs" / run.name for folder in (out, alone)]
    assert weights(same[0]) == weights(same[1])
    assert shown(out) == shown(alone)


def study_of_file(path: Path) -> Study:

    return read_study(path)


def weights(run: Path) -> dict[str, bytes]:
    from robustmix.models.checkpoint import read_checkpoint

    model = read_checkpoint(run / "checkpoints" / "last.pth").model
    return {name: tensor.numpy().tobytes() for name, tensor in model.items()}


@pytest.mark.slow
def test_a_job_that_fails_is_told_with_the_last_lines_of_its_log(
    node: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        'evaluate = { suite = "clean" }\n'
        'grid = { dataset = "digits", arch = "resnet8", method = ["vanilla", "mixup"], '
        "epochs = 1, lr = 1e30 }"
    )
    done = study(node, *("run", str(path), "--out", str(tmp_path / "out"), "--launcher", "slurm"))
    assert done.returncode == 4
    assert done.stderr.count("error[E-NONFINITE-LOSS]") >= 2
    assert "(job " in done.stderr


@pytest.mark.slow
def test_what_sbatch_refuses_is_told(node: dict[str, str], tmp_path: Path) -> None:
    words = ["run", "quick", "--out", str(tmp_path / "out"), "--launcher", "slurm"]
    done = study(node, *words, "--slurm", "partition=nowhere")
    assert done.returncode == 4
    assert "error[E-SLURM]: the jobs cannot be submitted" in done.stderr
    assert "partition" in done.stderr
