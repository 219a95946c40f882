"""`python -m pipeline.kubeflow`: the pipeline for a cluster, compiled and submitted."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, add_settings, choose_preset, run_program, settings
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.files import is_remote
from pipeline.compiler.compile_args import NO_BASELINE, CompileArgs
from pipeline.runtime import s3
from pipeline.settings import PipelineConfig

# What Kubeflow Pipelines and the components both open.
_SCHEMES = ("gs://", "s3://")
_FLAGS = (
    ("data", "URI", "Table of rows, as the cluster reads it: gs://BUCKET/data.csv."),
    ("root", "URI", "Folder of artifacts and pushed models: gs://BUCKET/mmkeras."),
    ("output", "FILE.yaml", "Where the compiled pipeline is written."),
    ("unlabeled", "URI", "Table without labels that the model answers."),
    ("schema", "URI", "Schema to hold rows against; else the root's own."),
    ("baseline", "URI", "Last blessed model, or none; else the newest pushed one."),
    ("host", "URL", "Kubeflow Pipelines, to submit to."),
    ("experiment", "NAME", "Experiment that the run is listed under (mmkeras)."),
    ("namespace", "NAME", "Of the run, where Kubeflow has several users."),
)


def main(argv: Sequence[str]) -> None:
    """Parses the command line, compiles the pipeline and submits it if asked to."""
    request = _request(argv)
    s3.check(request.uris, request.config.kubeflow.beam_args)
    with warnings.catch_warnings():  # of TFX's and KFP's own imports
        warnings.simplefilter("ignore")
        import yaml
        from absl import logging

        logging.set_verbosity(logging.ERROR)
        import_tensorflow()
        from pipeline.compiler.compile_request import make_compile_request
        from pipeline.compiler.kfp_compiler import compile_spec

        spec = compile_spec(make_compile_request(request))
        text = yaml.safe_dump(spec, sort_keys=True, allow_unicode=True)
        request.output.write_text(text, encoding="utf-8")
        print(f"Pipeline: {request.output}")
        if request.host:
            from pipeline.compiler.kfp_client import submit

            print(f"Run:      {submit(request)}")


def _request(argv: Sequence[str]) -> CompileArgs:
    image, argv = _take_image(argv)
    parser = _parser(argv)
    parsed = parser.parse_args(argv)
    given = {name: getattr(parsed, name) for name in ("data", "root", "output")}
    for name, value in {**given, "image": image}.items():
        if not value:
            raise UserError(f"--{name} is missing. See --help for what it is.")
    if parsed.submit and not parsed.host:
        raise UserError("--submit needs --host: give the URL of Kubeflow Pipelines.")
    if parsed.host and not parsed.submit:
        raise UserError("--host is where --submit goes: add --submit, or leave it out.")
    return CompileArgs(
        data=_file("data", parsed.data),
        root=_root(parsed.root, parsed.submit),
        image=image,
        output=_output(parsed.output),
        unlabeled=_file("unlabeled", parsed.unlabeled),
        schema=_file("schema", parsed.schema),
        baseline=_folder("baseline", parsed.baseline),
        host=parsed.host.rstrip("/") if parsed.host else None,
        experiment=parsed.experiment or "mmkeras",
        namespace=parsed.namespace,
        config=settings(parser, parsed, PipelineConfig),
    )


def _take_image(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Returns --image and the other arguments: the settings of pictures are --image."""
    image, rest, words = "", [], iter(argv)
    for word in words:
        if word == "--image":
            image = next(words, "")
        elif word.startswith("--image="):
            image = word.partition("=")[2]
        else:
            rest.append(word)
    if image.startswith("--"):
        raise UserError(f"--image needs the name of an image, received '{image}'.")
    return image, rest


def _parser(argv: Sequence[str]) -> Parser:
    parser = Parser(
        prog="python -m pipeline.kubeflow",
        usage="%(prog)s --data URI --root URI --image IMAGE --output FILE.yaml "
        "[--submit --host URL] [--preset NAME] [--config FILE.yaml] "
        "[--SETTING VALUE ...]",
        description="Compile the pipeline for Kubeflow Pipelines v2, and submit it. "
        "--image IMAGE is the container image, made with pipeline/Dockerfile.",
    )
    for name, metavar, text in _FLAGS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--submit", action="store_true", help="Run it on --host.")
    add_settings(parser, choose_preset(argv), PipelineConfig)
    return parser


# What is checked at once -------------------------------------------------------


def _root(value: str, submit: bool) -> str:
    """Returns a root that a cluster can write to; a local one is for trying."""
    if is_remote(value) and not value.startswith(_SCHEMES):
        raise UserError(
            f"--root '{value}' is no place for a pipeline: it must be gs://... or "
            "s3://..., which components open too (MinIO and SeaweedFS are s3://)."
        )
    if is_remote(value):
        return value.rstrip("/")
    if submit:
        raise UserError(
            f"--root '{value}' is a local folder, which no pod of a cluster sees: it "
            "must be gs://... or s3://...."
        )
    return str(Path(value).resolve())


def _file(name: str, value: str | None) -> str | None:
    if value is None or is_remote(value):
        return value
    if not Path(value).is_file():
        raise UserError(f"--{name} '{value}' is no file; give the path of one, or URI.")
    return str(Path(value).resolve())


def _folder(name: str, value: str | None) -> str | None:
    if value is None or value == NO_BASELINE or is_remote(value):
        return value and value.rstrip("/")
    if not Path(value).is_dir():
        raise UserError(f"--{name} '{value}' is no folder; give one, a URI, or none.")
    return str(Path(value).resolve())


def _output(value: str) -> Path:
    path = Path(value)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output '{value}' must end in .yaml.")
    if not path.parent.is_dir():
        raise UserError(f"--output '{value}' lies in no folder that is there.")
    return path


if __name__ == "__main__":
    run_program(main)
