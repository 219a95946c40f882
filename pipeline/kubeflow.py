"""Program `python -m pipeline.kubeflow`: compiles and submits the TFX pipeline."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, add_settings, choose_preset, run_program, settings
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.files import check_file, is_remote, write_text
from mmkeras.path_patterns import check_no_pattern
from pipeline.compiler.compile_args import NO_BASELINE, CompileArgs
from pipeline.runtime import s3
from pipeline.settings import PipelineConfig

# Schemes that both Kubeflow Pipelines and the components open.
_SCHEMES = ("gs://", "s3://")
_FLAGS = (
    ("data", "URI", "Table of rows, readable by the cluster: gs://BUCKET/data.csv."),
    ("root", "URI", "Folder of artifacts and pushed models: gs://BUCKET/mmkeras."),
    ("output", "FILE.yaml", "Path of the compiled pipeline."),
    ("unlabeled", "URI", "Table without labels that the model predicts."),
    ("schema", "URI", "Schema to check rows against, else the root's own."),
    ("baseline", "URI", "Last blessed model, or none (default: the latest pushed)."),
    ("host", "URL", "URL of Kubeflow Pipelines to submit to."),
    ("experiment", "NAME", "Experiment that lists the run (default: mmkeras)."),
    ("namespace", "NAME", "Namespace of the run, if Kubeflow has several users."),
)


def main(argv: Sequence[str]) -> None:
    """Parses the command line, compiles the pipeline and submits it with --submit."""
    args = parse_args(argv)
    s3.check(args.uris, args.config.kubeflow.beam_args)
    with warnings.catch_warnings():  # from the imports of TFX and KFP
        warnings.simplefilter("ignore")
        import yaml
        from absl import logging

        logging.set_verbosity(logging.ERROR)
        import_tensorflow()
        from pipeline.compiler.compile_request import make_compile_request
        from pipeline.compiler.kfp_compiler import compile_spec

        spec = compile_spec(make_compile_request(args))
        text = yaml.safe_dump(spec, sort_keys=True, allow_unicode=True)
        write_text(args.output, text)
        print(f"Pipeline: {args.output}")
        if args.host:
            from pipeline.compiler.kfp_client import submit

            print(f"Run:      {submit(args)}")


def parse_args(argv: Sequence[str]) -> CompileArgs:
    """Returns the checked arguments; raises UserError for a mistake."""
    image, argv = _take_image(argv)
    parser = _parser(argv)
    parsed = parser.parse_args(argv)
    required = {name: getattr(parsed, name) for name in ("data", "root", "output")}
    for name, value in {**required, "image": image}.items():
        if not value:
            raise UserError(f"--{name} is missing. See --help for its meaning.")
    if parsed.submit and not parsed.host:
        raise UserError("--submit needs --host: give the URL of Kubeflow Pipelines.")
    if parsed.host and not parsed.submit:
        raise UserError(
            "--host is used by --submit only: add --submit, or leave --host out."
        )
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
    """Returns the value of --image and the other arguments.

    The parser cannot have the flag, since settings begin with `--image.` as well.
    """
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
        "--image IMAGE is the container image built from pipeline/Dockerfile.",
    )
    for name, metavar, text in _FLAGS:
        parser.add_argument(f"--{name}", metavar=metavar, help=text)
    parser.add_argument("--submit", action="store_true", help="Run it on --host.")
    add_settings(parser, choose_preset(argv), PipelineConfig)
    return parser


def _root(value: str, submit: bool) -> str:
    """Returns a root that a cluster can write to; tests may use a local folder."""
    check_no_pattern("--root", value)
    if is_remote(value) and not value.startswith(_SCHEMES):
        raise UserError(
            f"--root '{value}' must be gs://... or s3://..., which components can open "
            "(MinIO and SeaweedFS are s3://)."
        )
    if is_remote(value):
        return value.rstrip("/")
    if submit:
        raise UserError(
            f"--root '{value}' is a local folder, which pods cannot open: give "
            "gs://... or s3://...."
        )
    return str(Path(value).resolve())


def _file(name: str, value: str | None) -> str | None:
    if value is None or is_remote(value):
        return value
    return str(check_file(f"--{name}", value, "the path of one, or a URI").resolve())


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
        raise UserError(f"--output '{value}' must be in a folder that exists.")
    return path


if __name__ == "__main__":
    run_program(main)
