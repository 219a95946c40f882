"""Optional dependencies: the extras of setup.cfg and the modules they install."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from mmkeras.config import Config
from mmkeras.errors import UserError, one_line

# Module -> extra, without modules of the core.
EXTRAS = {
    "huggingface_hub": "bert",
    "kagglehub": "bert",
    "keras_hub": "bert",
    "tensorflow_text": "bert",
    "tensorflow_hub": "hub",
    "tf_keras": "hub",
    "grpc_health": "serving",
    "httpx": "serving",
    "tenacity": "serving",
    "starlette": "serving",
    "uvicorn": "serving",
    "httptools": "serving",
    "orjson": "serving",
    "python_multipart": "serving",
    "apache_beam": "tfx",
    "keras_tuner": "tfx",
    "kfp": "tfx",
    "kfp_server_api": "tfx",
    "ml_metadata": "tfx",
    "tensorflow_data_validation": "tfx",
    "tensorflow_metadata": "tfx",
    "tensorflow_model_analysis": "tfx",
    "tensorflow_transform": "tfx",
    "tfx": "tfx",
    "boto3": "s3",
    "av": "media",
    "pillow_heif": "media",
    "optuna": "tune",
    "jiwer": "generate",
    "rouge_score": "generate",
    "sacrebleu": "generate",
}


def missing_extra(module: str, subject: str = "This") -> UserError:
    """Returns the error about a missing module, a key of `EXTRAS`.

    `subject` is the setting or program that needs it, such as "text.encoder=bert".
    """
    extra = EXTRAS[module]
    return UserError(
        f"{subject} needs {module}, which is not installed. Install mmkeras with the "
        f"extra '{extra}': pip install '.[{extra}]' in its folder, or "
        f"'FILE.whl[{extra}]'."
    )


def check_extra(module: str, subject: str) -> None:
    """Checks that a module of an extra is installed; `subject` as in `missing_extra`.

    Raises:
        UserError: It is not.
    """
    if find_spec(module) is None:
        raise missing_extra(module, subject)


def import_extra(module: str, subject: str) -> ModuleType:
    """Imports a module of an extra without warnings; `subject` as in `missing_extra`.

    Raises:
        UserError: The module is missing, or cannot be imported.
    """
    name = module.partition(".")[0]
    check_extra(name, subject)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(module)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{subject} needs {name}, which cannot be imported "
                f"({one_line(error, 200)}). "
                f"Install the extra '{EXTRAS[name]}': "
                f"pip install '.[{EXTRAS[name]}]' in the folder of mmkeras."
            ) from error


def check_extras(config: Config) -> None:
    """Checks that the extras needed by settings are installed.

    Raises:
        UserError: One is missing.
    """
    text, image, audio = config.text, config.image, config.audio
    needs_learner = text.tokens == "wordpiece" and not text.vocab_file
    for setting, module, is_needed in (
        ("text.tokens=wordpiece", "tensorflow_text", needs_learner),
        ("text.encoder=hub", "tensorflow_hub", text.encoder == "hub"),
        (
            f"image.encoder={image.encoder}",
            "keras_hub",
            image.encoder in ("kerashub", "kerashub_vit"),
        ),
        ("audio.encoder=hub", "tensorflow_hub", audio.encoder == "hub"),
        ("audio.encoder=kerashub", "keras_hub", audio.encoder == "kerashub"),
    ):
        if is_needed:
            check_extra(module, setting)
