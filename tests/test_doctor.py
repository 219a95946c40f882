import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmkeras import doctor
from mmkeras.doctor import FAIL, OK, WARN, Finding, Probe

PROBE = Probe(seconds=1.5, version="2.16.2", weights_url="http://host/a/weights.h5")
BROKEN = Probe(error="ImportError: libfoo.so is missing")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")


def test_this_installation_passes_without_tensorflow_in_the_main_process():
    code = """
import sys
from mmkeras import doctor
doctor.download_problem = lambda url: ""
code = doctor.main([])
print(code, "tensorflow" in sys.modules, "keras" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    *lines, last = result.stdout.splitlines()
    assert last == "0 False False", result.stdout + result.stderr
    assert {line.split()[0] for line in lines} <= {OK, WARN}
    for subject in ("glibc", "CPU", "extra serving", "TensorFlow 2."):
        assert any(line.startswith("ok") and subject in line for line in lines)
    assert all(line.count(" GPU: ") + line.count(" weights: ") for line in lines[-2:])


@pytest.mark.parametrize(
    ("findings", "code", "out"),
    [
        ([Finding(WARN, "a: b", "c")], 0, "warn  a: b. c\n"),
        ([Finding(FAIL, "a", "b"), Finding(OK, "c")], 1, "FAIL  a. b\nok    c\n"),
    ],
)
def test_only_a_failure_gives_exit_code_1(findings, code, out, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run_checks", lambda: iter(findings))
    assert doctor.main([]) == code
    assert capsys.readouterr().out == out


def test_an_argument_is_refused_in_one_line(capsys):
    assert doctor.main(["--gpu"]) == 2
    assert capsys.readouterr().err == "error: There is no flag '--gpu'.\n"


@pytest.mark.parametrize(
    ("libc", "level"),
    [(("glibc", "2.5"), FAIL), (("glibc", "2.26"), FAIL), (("glibc", "2.27"), WARN)]
    + [(("glibc", "2.35"), WARN), (("glibc", "2.36"), OK), (("glibc", "3.0"), OK)]
    + [(("", ""), FAIL), (("musl", "1.2.4"), FAIL), (("libc", "6"), FAIL)],
)
def test_a_glibc_of_a_supported_version_is_needed(monkeypatch, libc, level):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    finding = doctor.check_glibc()
    assert finding.level == level and libc[1] in finding.text
    assert bool(finding.advice) == (level != OK)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert doctor.check_glibc().level == OK


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", "fpu sse4_2 avx avx2", OK),
        ("AMD64", "fpu sse4_2 xavx", FAIL),
        ("x86_64", None, WARN),
        ("aarch64", None, OK),
    ],
)
def test_a_cpu_needs_avx(tmp_path, monkeypatch, machine, flags, level):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    path = tmp_path / "cpuinfo"
    if flags:
        path.write_text(f"model name : avx\nflags\t\t: {flags}\n")
    assert doctor.check_cpu(path).level == level


def test_a_missing_extra_is_no_problem_and_has_its_command(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: name != "kfp" or None)
    findings = {f.text.split()[1].rstrip(":"): f for f in doctor.check_extras()}
    extras = {"bert", "hub", "serving", "tfx", "s3", "media", "tune", "generate"}
    assert set(findings) == extras
    assert {finding.level for finding in findings.values()} == {OK}
    assert findings["s3"].text.endswith(": installed") and not findings["s3"].advice
    assert "kfp" in findings["tfx"].text
    assert "pip install '.[tfx]'" in findings["tfx"].advice


def test_the_probe_reads_the_last_line_and_sets_the_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    code = """
import json, os
print("a greeting of some package")
print(json.dumps(dict(seconds=2, version=os.environ["KERAS_BACKEND"], gpus=["A", "B"],
                      weights_url="u")))
"""
    monkeypatch.setattr(doctor, "_PROBE", code)
    assert doctor.probe_tensorflow() == Probe(2, "tensorflow", ("A", "B"), "u")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ImportError('libfoo.so is missing')", BROKEN.error),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("raise SystemExit(3)", "no message"),
        ("import time; time.sleep(60)", "not done after 1 s"),
    ],
)
def test_a_tensorflow_that_cannot_be_imported_fails(monkeypatch, code, error):
    monkeypatch.setattr(doctor, "_PROBE", code)
    monkeypatch.setattr(doctor, "_IMPORT_S", 1)
    probe = doctor.probe_tensorflow()
    assert probe == Probe(error=error)
    finding = doctor.check_tensorflow(probe)
    assert finding.level == FAIL and error in finding.text
    assert "pip install ." in finding.advice


@pytest.mark.parametrize(
    ("has_driver", "probe", "devices", "level", "text"),
    [
        (False, PROBE, None, OK, "none"),
        (False, BROKEN, None, OK, "none"),
        (True, Probe(gpus=("NVIDIA H200", "T4")), None, OK, "NVIDIA H200, T4"),
        (True, PROBE, None, WARN, "TensorFlow finds no GPU"),
        (True, PROBE, "-1", WARN, "CUDA_VISIBLE_DEVICES='-1'"),
        (True, BROKEN, None, WARN, "not known"),
    ],
)
def test_a_gpu_is_named_or_missed(monkeypatch, has_driver, probe, devices, level, text):
    smi = "/usr/bin/nvidia-smi" if has_driver else None
    monkeypatch.setattr(shutil, "which", lambda _: smi)
    no_device = SimpleNamespace(exists=lambda: False)
    monkeypatch.setattr(doctor, "Path", lambda _: no_device)
    if devices:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    finding = doctor.check_gpu(probe)
    assert finding.level == level and text in finding.text
    if probe is PROBE and has_driver:
        assert "pip install '.[gpu]'" in finding.advice


def test_weights_are_cached_or_downloadable_or_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "download_problem", lambda _: "")
    assert doctor.check_weights(PROBE).level == OK
    monkeypatch.setattr(doctor, "download_problem", lambda _: "unplugged")
    finding = doctor.check_weights(PROBE)
    assert finding.level == WARN and "host can be read (unplugged)" in finding.text
    assert "--image.weights FILE" in finding.advice and "none" in finding.advice
    (tmp_path / "models").mkdir()
    (tmp_path / "models/weights.h5").touch()
    path = tmp_path / "models/weights.h5"
    assert doctor.check_weights(PROBE) == Finding(OK, f"weights: {path}")
    assert doctor.check_weights(BROKEN).level == WARN
