import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import packaging.requirements  # noqa: F401  (some tests empty sys.path)
import pytest

from mmkeras import doctor
from mmkeras.doctor import FAIL, OK, WARN, Finding, Probe

SEEN = Probe(seconds=1.5, version="2.16.2", weights_url="http://host/a/weights.h5")
BROKEN = Probe(error="ImportError: libfoo.so is missing")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("no_proxy", "*")


# The program ------------------------------------------------------------------


def test_this_installation_passes_without_tensorflow_in_the_main_process():
    code = """
import sys
from mmkeras import doctor
doctor.host_problem = lambda url: ""
code = doctor.main([])
print(code, "tensorflow" in sys.modules, "keras" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *lines, last = done.stdout.splitlines()
    assert last == "0 False False", done.stdout + done.stderr
    assert {line.split()[0] for line in lines} <= {OK, WARN}
    for subject in ("Python 3.1", "glibc", "requirements: all", "TensorFlow 2."):
        assert any(line.startswith("ok") and subject in line for line in lines)
    assert all(line.count(" GPU: ") + line.count(" weights: ") for line in lines[-2:])


def findings_are(monkeypatch, *findings):
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))


def test_a_failure_anywhere_gives_exit_1_and_the_rest_is_still_said(
    monkeypatch, capsys
):
    findings_are(
        monkeypatch,
        Finding(FAIL, "disk: gone", "Buy one"),
        Finding(OK, "CPU: there"),
    )
    assert doctor.main([]) == 1
    assert capsys.readouterr().out == "FAIL  disk: gone. Buy one\nok    CPU: there\n"


def test_warnings_alone_give_exit_0(monkeypatch, capsys):
    findings_are(monkeypatch, Finding(WARN, "memory: little", "Take care"))
    assert doctor.main([]) == 0
    assert capsys.readouterr().out == "warn  memory: little. Take care\n"


def test_an_argument_is_refused_in_one_line(capsys):
    assert doctor.main(["--gpu"]) == 2
    assert capsys.readouterr().err == "error: There is no flag '--gpu'.\n"


# The machine ------------------------------------------------------------------


def test_another_python_fails(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    found = doctor.check_python()
    assert found.level == FAIL
    assert "3.9.1" in found.what and "3.10 to 3.13" in found.advice


@pytest.mark.parametrize(
    "system, machine, level",
    [
        ("Linux", "x86_64", OK),
        ("Linux", "aarch64", WARN),
        ("Darwin", "arm64", WARN),
        ("Windows", "AMD64", WARN),
        ("Darwin", "x86_64", FAIL),
        ("Linux", "riscv64", FAIL),
    ],
)
def test_a_system_is_tested_or_has_packages_or_fails(
    monkeypatch, system, machine, level
):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = doctor.check_platform()
    assert found.level == level and f"{system} {machine}" in found.what
    assert bool(found.advice) == (level != OK)


@pytest.mark.parametrize(
    "version, level",
    [("2.5", FAIL), ("2.26", FAIL), ("2.27", WARN), ("2.30", WARN)]
    + [("2.31", OK), ("2.36", OK), ("3.0", OK)],
)
def test_the_version_of_glibc_is_compared_as_numbers(monkeypatch, version, level):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", version))
    found = doctor.check_glibc()
    assert found.level == level and version in found.what
    assert bool(found.advice) == (level != OK)


def test_only_linux_needs_a_glibc(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert doctor.check_glibc().level == OK


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2.4"), ("libc", "6")])
def test_musl_fails(monkeypatch, libc):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    found = doctor.check_glibc()
    assert found.level == FAIL and "not glibc" in found.what


@pytest.mark.parametrize(
    "flags, level", [("fpu sse4_2 avx avx2", OK), ("fpu sse4_2 xavx", FAIL)]
)
def test_a_cpu_without_avx_fails(tmp_path, flags, level):
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name : avx\nflags\t\t: {flags}\n")
    assert doctor.check_cpu(file).level == level


def test_a_cpu_of_another_kind_needs_no_avx(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert doctor.check_cpu(tmp_path / "absent").level == OK


def test_a_cpu_that_says_nothing_is_a_warning(tmp_path):
    assert doctor.check_cpu(tmp_path / "absent").level == WARN


@pytest.mark.parametrize("gigabytes, level", [(3.9, WARN), (4.0, OK)])
def test_little_memory_is_a_warning(monkeypatch, gigabytes, level):
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: int(gigabytes * 1e9))
    found = doctor.check_memory()
    assert found.level == level and f"{gigabytes} GB" in found.what


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_what_a_container_may_use_is_its_memory(tmp_path, file):
    machine = doctor._memory_bytes(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for limit, found in [("1000000", 1000000), ("max", machine), ("9" * 18, machine)]:
        (tmp_path / file).write_text(f"{limit}\n")
        assert doctor._memory_bytes(tmp_path) == found


@pytest.mark.parametrize(
    "name, value", [("KERAS_BACKEND", "jax"), ("TF_USE_LEGACY_KERAS", "1")]
)
def test_a_variable_that_sends_keras_elsewhere_is_a_warning(monkeypatch, name, value):
    assert doctor.check_environment().level == OK
    monkeypatch.setenv(name, value)
    found = doctor.check_environment()
    assert found.level == WARN
    assert f"{name}={value}" in found.what and found.advice == f"Run: unset {name}"


def test_the_cache_is_where_xdg_puts_it_and_looking_makes_nothing(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    found = doctor.check_cache()
    assert found.level in (OK, WARN) and str(tmp_path / "new/mmkeras") in found.what
    assert not any(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_fails(monkeypatch, tmp_path):
    # A file in the way: root may write into every folder.
    (tmp_path / "mmkeras").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = doctor.check_cache()
    assert found.level == FAIL and "Not a directory" in found.what
    assert "XDG_CACHE_HOME" in found.advice


@pytest.mark.parametrize("gigabytes, level", [(1.9, WARN), (2.0, OK)])
def test_a_full_disk_is_a_warning(monkeypatch, tmp_path, gigabytes, level):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    usage = SimpleNamespace(free=gigabytes * 1e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert doctor.check_cache().level == level


# The packages -----------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Installs distributions of any name, version and requirements, seen alone."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    def install(name, version, *requires, extras=()):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    return install


def test_requirements_that_are_met_are_counted(installed):
    installed("mmkeras", "1", "keras==3.10.0", "tqdm>=4", 'dill; extra == "tfx"')
    installed("keras", "3.10.0")
    installed("tqdm", "4.66")
    assert doctor.check_requirements() == Finding(OK, "requirements: all 2 as wanted")


def test_a_missing_and_a_wrong_package_fail_with_wanted_and_found(installed):
    installed("mmkeras", "1", "keras==3.10.0", "pillow<12,>=10.3", "tqdm")
    installed("keras", "3.9.1")
    installed("tqdm", "4.66")
    found = doctor.check_requirements()
    assert found.level == FAIL
    assert found.what == (
        "requirements: keras: 3.9.1 found, ==3.10.0 wanted; "
        "pillow: not found, <12,>=10.3 wanted"
    )
    assert found.advice == "Run: pip install 'keras==3.10.0' 'pillow<12,>=10.3'"


def test_a_requirement_for_another_system_is_not_wanted(installed):
    installed("mmkeras", "1", 'pywin32; sys_platform == "win32"', "tqdm")
    installed("tqdm", "4.66")
    assert doctor.check_requirements().level == OK


def test_a_requirements_own_extra_is_looked_into(installed):
    installed("mmkeras", "1", "tensorflow[and-cuda]>=2")
    installed("tensorflow", "2.16", 'nvidia-cudnn>=8; extra == "and-cuda"')
    found = doctor.check_requirements()
    assert found.level == FAIL and "nvidia-cudnn: not found" in found.what


def test_the_rest_of_a_broken_installation_counts_as_missing(installed, tmp_path):
    installed("mmkeras", "1", "keras==3.10.0")
    (tmp_path / "keras-3.10.0.dist-info").mkdir()
    assert "keras: not found" in doctor.check_requirements().what


def test_mmkeras_that_is_not_installed_is_a_warning(installed):
    found = doctor.check_requirements()
    assert found.level == WARN and "not installed" in found.what
    assert doctor._extras() == []


def test_a_missing_packaging_fails_as_it_reads_the_requirements(monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    found = doctor.check_requirements()
    assert found.level == FAIL and "pip install 'packaging'" in found.advice
    assert doctor.check_extra("tfx").level == WARN


def on_glibc(monkeypatch, version, python):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", version))
    monkeypatch.setattr(sys, "version_info", (*python, 1))


def test_an_extra_is_fine_both_whole_and_absent(installed, monkeypatch):
    on_glibc(monkeypatch, "2.41", (3, 13))
    wanted = ['dill; extra == "tfx"', 'kfp==2.5.0; extra == "tfx"']
    installed("mmkeras", "1", "keras", *wanted, extras=["tfx", "gpu"])
    assert doctor._extras() == ["tfx", "gpu"]
    absent = doctor.check_extra("tfx")
    assert absent.level == OK and "not installed" in absent.what
    assert absent.what.endswith("and 1 more)")
    assert absent.advice.endswith("pip install '.[tfx]'")
    installed("dill", "0.3")
    installed("kfp", "2.5.0")
    assert doctor.check_extra("tfx") == Finding(OK, "extra tfx: whole")


def test_an_old_glibc_has_tfx_on_python_3_10_alone(installed, monkeypatch):
    wanted = 'dill; extra == "tfx"', 'boto3; extra == "s3"'
    installed("mmkeras", "1", *wanted, extras=["tfx", "s3"])
    on_glibc(monkeypatch, "2.36", (3, 13))
    advice = doctor.check_extra("tfx").advice
    assert "2.39" in advice and "2.36" in advice and "Python 3.10" in advice
    assert "pip install '.[s3]'" in doctor.check_extra("s3").advice
    on_glibc(monkeypatch, "2.36", (3, 10))
    assert "pip install '.[tfx]'" in doctor.check_extra("tfx").advice


def test_a_soundfile_without_mp3_is_a_warning(monkeypatch):
    import soundfile

    assert doctor.check_soundfile().level == OK
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "WAV"})
    found = doctor.check_soundfile()
    assert found.level == WARN and "reads no MP3" in found.what


def test_a_soundfile_that_does_not_import_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    found = doctor.check_soundfile()
    assert found.level == FAIL and "does not import" in found.what


# TensorFlow -------------------------------------------------------------------


def test_the_probe_reads_the_last_line_and_wants_the_tensorflow_backend(monkeypatch):
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
    "code, error",
    [
        ("raise ImportError('libfoo.so is missing')", BROKEN.error),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("raise SystemExit(3)", "no message"),
    ],
)
def test_a_tensorflow_that_does_not_import_fails_with_its_last_line(
    monkeypatch, code, error
):
    monkeypatch.setattr(doctor, "_PROBE", code)
    probe = doctor.probe_tensorflow()
    assert probe == Probe(error=error)
    found = doctor.check_tensorflow(probe)
    assert found.level == FAIL and error in found.what
    assert "'tensorflow<2." in found.advice and "'keras<3." in found.advice


def test_a_tensorflow_that_hangs_fails(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_IMPORT_S", 0.2)
    assert doctor.probe_tensorflow() == Probe(error="not done after 0.2 s")


@pytest.fixture
def driver(monkeypatch):
    """Puts nvidia-smi on the path, or takes it away, and /dev/nvidia0 with it."""

    def put(there):
        smi = "/usr/bin/nvidia-smi" if there else None
        path = SimpleNamespace(exists=lambda: False)
        monkeypatch.setattr(shutil, "which", lambda _: smi)
        monkeypatch.setattr(doctor, "Path", lambda _: path)

    return put


def test_no_gpu_on_the_machine_is_fine(driver):
    driver(False)
    for probe in (SEEN, BROKEN):
        found = doctor.check_gpu(probe)
        assert found == Finding(OK, "GPU: none; training runs on the CPU")


def test_a_gpu_that_tensorflow_does_not_see_is_a_warning(driver, monkeypatch):
    driver(True)
    found = doctor.check_gpu(SEEN)
    assert found.level == WARN and "pip install '.[gpu]'" in found.advice
    assert "CUDA_VISIBLE_DEVICES" not in found.what
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES='-1'" in doctor.check_gpu(SEEN).what
    assert "not known" in doctor.check_gpu(BROKEN).what


def test_gpus_that_are_seen_are_named(driver):
    driver(True)
    found = doctor.check_gpu(Probe(gpus=("NVIDIA H200", "NVIDIA T4")))
    assert found == Finding(OK, "GPU: NVIDIA H200, NVIDIA T4")


# The weights ------------------------------------------------------------------


@pytest.fixture
def keras_home(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_weights_in_the_cache_need_no_host(keras_home, monkeypatch):
    monkeypatch.setattr(doctor, "host_problem", lambda _: "unplugged")
    (keras_home / "models").mkdir()
    (keras_home / "models/weights.h5").touch()
    found = doctor.check_weights(SEEN)
    assert found == Finding(OK, f"weights: {keras_home}/models/weights.h5")


def test_weights_that_can_be_fetched_are_fine(keras_home, monkeypatch):
    monkeypatch.setattr(doctor, "host_problem", lambda _: "")
    assert doctor.check_weights(SEEN).level == OK


def test_weights_out_of_reach_are_a_warning_that_names_the_ways_out(
    keras_home, monkeypatch
):
    monkeypatch.setattr(doctor, "host_problem", lambda _: "unplugged")
    found = doctor.check_weights(SEEN)
    assert found.level == WARN
    assert "nor host can be read (unplugged)" in found.what
    assert "--image.weights FILE" in found.advice and "none" in found.advice


def test_without_tensorflow_the_weights_are_not_known():
    assert doctor.check_weights(BROKEN).level == WARN


@pytest.fixture
def host():
    """A server that answers HEAD with 200, 403 or late, and nothing else."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            time.sleep(0.6 if self.path == "/late" else 0)
            self.send_response(403 if self.path == "/forbidden" else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_host_that_answers_has_no_problem_and_a_refusal_is_named(host):
    assert doctor.host_problem(f"{host}/weights.h5") == ""
    assert "403" in doctor.host_problem(f"{host}/forbidden")


def test_a_host_that_is_late_is_given_up(host, monkeypatch):
    monkeypatch.setattr(doctor, "_HOST_S", 0.2)
    assert "timed out" in doctor.host_problem(f"{host}/late")


def test_a_host_that_is_not_there_is_a_problem():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    problem = doctor.host_problem(f"http://127.0.0.1:{port}/weights.h5")
    assert os.strerror(111) in problem and "<" not in problem
