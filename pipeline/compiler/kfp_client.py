"""A compiled pipeline, sent to Kubeflow Pipelines."""

import io
import json
from contextlib import redirect_stdout

import kfp
import kfp_server_api
import urllib3

from mmkeras.errors import UserError
from pipeline.compiler.compile_args import CompileArgs

_TIMEOUT_S = 20.0
_HEALTH_PATH = "/apis/v2beta1/healthz"


def submit(request: CompileArgs) -> str:
    """Starts a run of the compiled pipeline; returns the address of its page.

    Raises:
        UserError: Kubeflow Pipelines cannot be reached, or refuses the pipeline.
    """
    host = request.host if "://" in request.host else f"https://{request.host}"
    _reach(host)
    try:
        with redirect_stdout(io.StringIO()):  # it prints the address in its own way
            client = kfp.Client(host=host)
            run = client.create_run_from_pipeline_package(
                str(request.output),
                experiment_name=request.experiment,
                namespace=request.namespace,
                pipeline_root=request.pipeline_root,
                service_account=request.config.kubeflow.service_account or None,
            )
    except kfp_server_api.ApiException as error:
        raise UserError(
            f"{host} refuses the pipeline: {error.status} {_reason(error)}"
        ) from None
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        raise _unreachable(host, error) from None
    return f"{host}/#/runs/details/{run.run_id}"


def _reach(host: str) -> None:
    """Says soon that nobody answers there, which the client would wait for forever."""
    pool = urllib3.PoolManager(timeout=_TIMEOUT_S, retries=False)
    try:
        pool.request("GET", f"{host}{_HEALTH_PATH}")
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise _unreachable(host, error) from None


def _unreachable(host: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"Kubeflow Pipelines at {host} cannot be reached: {reason}. Check --host; from "
        "outside a cluster: kubectl port-forward -n kubeflow svc/ml-pipeline-ui "
        "8080:80, and --host http://localhost:8080."
    )


def _reason(error: kfp_server_api.ApiException) -> str:
    try:
        said = json.loads(error.body)
        return " ".join(str(said.get("message") or said["error"]).split())
    except (TypeError, ValueError, KeyError, AttributeError):
        return str(error.reason)
