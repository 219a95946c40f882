import subprocess
import sys


def run(*argv):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True)


def test_tensorflow_opens_s3_once_it_is_registered():
    done = run(
        "-c",
        "import tensorflow as tf; from pipeline import s3\n"
        "schemes = tf.io.gfile.get_registered_schemes\n"
        "before = 's3' in schemes(); s3.register(); print(before, 's3' in schemes())",
    )
    assert done.stdout == "False True\n", done.stderr


def test_the_entrypoint_is_that_of_tfx():
    done = run("-m", "pipeline.s3", "--help")
    assert done.returncode == 0, done.stderr
    assert "--json_serialized_invocation_args" in done.stdout
